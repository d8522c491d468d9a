//! From kernel addresses to function names.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead as _, BufReader},
    ops::Range,
    time::Instant,
};

/// Every symbol has a line: its address, its kind, its name, and the module if it has one.
const TABLE: &str = "/proc/kallsyms";

/// Least time between two readings, so that addresses without a symbol cost
/// next to nothing.
const REREAD_AFTER_SECS: u64 = 60;

/// No function is as long. What is further behind a symbol lies in code that
/// has none, such as another tracer's programs.
const MAX_FUNCTION_LEN: u64 = 1 << 20;

/// Variables that are asked for by name.
const VARIABLES: [&str; 2] = ["vmemmap_base", "page_offset_base"];

/// The functions whose names begin so, of the modules that are loaded now.
///
/// # Errors
///
/// If `/proc/kallsyms` cannot be read.
pub fn beginning_with(prefix: &str) -> io::Result<HashSet<String>> {
    Ok(Symbols::read()?.beginning_with(prefix))
}

/// A place in the kernel's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The function; of a module's, the name alone.
    pub function: String,
    /// Bytes from its start.
    pub offset: u64,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{:#x}", self.function, self.offset)
    }
}

/// The kernel's symbol table, as far as it is code.
#[derive(Default)]
pub struct Symbols {
    /// Address, and where in `names` the name begins; sorted by address.
    functions: Vec<(u64, u32)>,
    /// All names, each ended by a zero.
    names: Vec<u8>,
    variables: [Option<u64>; VARIABLES.len()],
    read_at: Option<Instant>,
}

impl Symbols {
    /// Reads [`TABLE`].
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn of_running_kernel() -> io::Result<Self> {
        let mut symbols = Self::read()?;
        symbols.read_at = Some(Instant::now());
        Ok(symbols)
    }

    /// Line by line, since the whole text is larger than all that is kept of it.
    fn read() -> io::Result<Self> {
        let mut table = BufReader::new(File::open(TABLE)?);
        let mut symbols = Self::default();
        let mut line = Vec::new();
        while table.read_until(b'\n', &mut line)? != 0 {
            symbols.add(line.trim_ascii_end());
            line.clear();
        }
        Ok(symbols.sorted())
    }

    /// From text in the format of [`TABLE`]; lines of another form are passed over.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut symbols = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            symbols.add(line);
        }
        symbols.sorted()
    }

    fn add(&mut self, line: &[u8]) {
        let Some((address, kind, name)) = symbol(line) else {
            return;
        };
        if matches!(kind, b't' | b'T' | b'w' | b'W') {
            let Ok(at) = u32::try_from(self.names.len()) else {
                return;
            };
            self.names.extend_from_slice(name);
            self.names.push(0);
            self.functions.push((address, at));
        } else if let Some(i) = VARIABLES.iter().position(|known| known.as_bytes() == name) {
            self.variables[i] = Some(address);
        }
    }

    /// Several names may share an address; the first one listed counts.
    fn sorted(mut self) -> Self {
        self.functions.sort_by_key(|(address, _)| *address);
        self.functions.dedup_by_key(|(address, _)| *address);
        self
    }

    /// True where the kernel hides its addresses from this user, or there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Address of one of the variables that this program asks for.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<u64> {
        self.variables[VARIABLES.iter().position(|known| *known == name)?]
    }

    /// Whether the compiler made a part or a variant of a function one of its own, such
    /// as `NAME.cold`.
    #[must_use]
    pub fn is_split(&self, name: &str) -> bool {
        let mut functions = self.functions.iter();
        functions.any(|(_, at)| self.follows(*at, name) == Some(b'.'))
    }

    /// What comes behind `name` in a function's name that begins so; 0 at its end.
    fn follows(&self, at: u32, name: &str) -> Option<u8> {
        let rest = self.names.get(at as usize..)?;
        rest.strip_prefix(name.as_bytes())?.first().copied()
    }

    /// Where the function of this name lies; the first one of several.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<Range<u64>> {
        let is_it = |at: u32| self.follows(at, name) == Some(0);
        let i = self.functions.iter().position(|(_, at)| is_it(*at))?;
        let (start, _) = self.functions[i];
        let end = self.functions.get(i + 1).map_or(start, |(next, _)| *next);
        Some(start..end.min(start + MAX_FUNCTION_LEN))
    }

    fn beginning_with(&self, prefix: &str) -> HashSet<String> {
        let names = self.names.split(|byte| *byte == 0);
        names
            .filter(|name| name.starts_with(prefix.as_bytes()))
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    /// The function in which a call returns to `address`.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<Location> {
        // A return address may lie right behind the end of the calling function.
        let call = address.checked_sub(1)?;
        let next = self.functions.partition_point(|(start, _)| *start <= call);
        let (start, name) = *self.functions.get(next.checked_sub(1)?)?;
        let bytes = self.names.get(name as usize..)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let offset = address - start;
        (offset < MAX_FUNCTION_LEN).then(|| Location {
            function: String::from_utf8_lossy(&bytes[..end]).into_owned(),
            offset,
        })
    }

    /// As [`Self::find`]; reads the table again where that may help, since
    /// modules come and go.
    pub fn find_fresh(&mut self, address: u64) -> Option<Location> {
        let outdated = self
            .read_at
            .is_none_or(|at| at.elapsed().as_secs() >= REREAD_AFTER_SECS);
        let beyond = self
            .functions
            .last()
            .is_none_or(|(last, _)| address > *last);
        if outdated && (self.is_empty() || beyond) {
            match Self::of_running_kernel() {
                Ok(fresh) => *self = fresh,
                Err(error) => log::debug!("cannot read {TABLE}: {error}"),
            }
            self.read_at = Some(Instant::now());
        }
        self.find(address)
    }
}

/// Address, kind and name of the symbol in a line; `None` also of one whose address is
/// hidden from this user.
fn symbol(line: &[u8]) -> Option<(u64, u8, &[u8])> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (address, rest) = line.split_at(space);
    let [b' ', kind, b' ', name @ ..] = rest else {
        return None;
    };
    let address = address.iter().try_fold(0_u64, |address, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(address.checked_mul(16)? + u64::from(digit))
    })?;
    let name = name.split(u8::is_ascii_whitespace).next()?;
    (address != 0).then_some((address, *kind, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"ffffffff81000000 T _stext\nffffffff81000000 T startup_64\n\
        ffffffff81000100 t kfree\nffffffff81000200 D vmemmap_base\n\
        ffffffff81000300 T nf_hook_slow\n\nbroken line\n\
        ffffffffc0000000 t nft_do_chain\t[nf_tables]\n";

    #[test]
    fn a_return_address_belongs_to_the_call_before_it() {
        let symbols = Symbols::parse(TEXT);
        let location = symbols.find(0xffff_ffff_8100_0300).unwrap();
        assert_eq!(location.to_string(), "kfree+0x200");
        let location = symbols.find(0xffff_ffff_8100_0301).unwrap();
        assert_eq!(location.to_string(), "nf_hook_slow+0x1");
    }

    #[test]
    fn functions_of_modules_and_variables_are_known() {
        let symbols = Symbols::parse(TEXT);
        assert_eq!(
            symbols.find(0xffff_ffff_c000_0010).unwrap().function,
            "nft_do_chain"
        );
        assert_eq!(
            symbols.variable("vmemmap_base"),
            Some(0xffff_ffff_8100_0200)
        );
        assert_eq!(symbols.variable("page_offset_base"), None);
    }

    #[test]
    fn a_part_of_a_function_is_not_that_function() {
        let symbols = Symbols::parse(
            b"ffffffff81000000 t hook\nffffffff81000100 t hook.cold\n\
              ffffffff81000200 t hook_slow\n",
        );
        assert!(symbols.is_split("hook"));
        assert!(!symbols.is_split("hook_slow") && !symbols.is_split("hoo"));
        assert_eq!(
            symbols.function("hook"),
            Some(0xffff_ffff_8100_0000..0xffff_ffff_8100_0100)
        );
    }

    #[test]
    fn a_function_ends_where_the_next_one_begins() {
        let symbols = Symbols::parse(TEXT);
        let kfree = 0xffff_ffff_8100_0100..0xffff_ffff_8100_0300;
        assert_eq!(symbols.function("kfree"), Some(kfree));
        assert_eq!(symbols.function("kfre"), None);
        assert_eq!(symbols.function("vmemmap_base"), None);
        let last = 0xffff_ffff_c000_0000;
        assert_eq!(symbols.function("nft_do_chain"), Some(last..last));
    }

    #[test]
    fn functions_are_found_by_how_their_names_begin() {
        let found = Symbols::parse(TEXT).beginning_with("nf");
        assert_eq!(
            found,
            ["nf_hook_slow", "nft_do_chain"]
                .map(ToOwned::to_owned)
                .into()
        );
    }

    #[test]
    fn code_without_a_symbol_is_not_taken_for_the_last_function() {
        assert_eq!(Symbols::parse(TEXT).find(0xffff_ffff_c010_0000), None);
    }

    #[test]
    fn hidden_addresses_are_no_symbols() {
        assert!(Symbols::parse(b"0000000000000000 T _stext\n").is_empty());
        assert_eq!(Symbols::parse(b"").find(1), None);
        assert_eq!(Symbols::parse(TEXT).find(0), None);
    }
}
