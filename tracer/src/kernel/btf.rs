//! A reader of the kernel's type information (BTF), just deep enough for
//! struct offsets, enum values and function arguments.
//!
//! The format: <https://github.com/torvalds/linux/blob/v6.12/Documentation/bpf/btf.rst>

use std::{
    collections::BTreeMap,
    fs,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    io,
    ops::Range,
    path::Path,
};

/// Where the running kernel offers its own BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// Where it offers that of its modules, by name. Since Linux 5.11.
pub const FOLDER: &str = "/sys/kernel/btf";

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Chains of typedefs and nested anonymous members that are followed at most.
const MAX_DEPTH: u32 = 32;

/// Why BTF could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The contents are not BTF.
    #[error("{0} does not hold valid BTF")]
    Malformed(String),
}

/// Type information of one kernel image.
pub struct Btf {
    data: Vec<u8>,
    /// Offset in `data` of each type, by identifier; 0 is `void`.
    types: Vec<u32>,
    /// Offset in `data` of the strings.
    strings: usize,
    /// Digest of the name and identifier, in order, for kinds that are looked up by name.
    /// Not the names: to own each takes time at every start.
    names: Vec<(u32, u32)>,
}

/// An argument of a tracepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A pointer.
    Pointer,
    /// An enum.
    Enum,
    /// Anything else.
    Other,
}

/// The fixed part of a type.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    info: u32,
    /// Size or type identifier, by kind.
    size_or_target: u32,
    /// Offset in `data` of what follows.
    rest: usize,
}

impl Type {
    fn kind(self) -> u32 {
        self.info >> 24 & 0x1f
    }

    fn len(self) -> usize {
        (self.info & 0xffff) as usize
    }

    fn has_bit_fields(self) -> bool {
        self.info >> 31 == 1
    }
}

impl Btf {
    /// The running kernel's.
    ///
    /// # Errors
    ///
    /// If [`VMLINUX`] cannot be read or holds no BTF.
    pub fn of_running_kernel() -> Result<Self, Error> {
        Self::from_file(Path::new(VMLINUX))
    }

    /// The running kernel's and on top of it that of a loaded module.
    ///
    /// # Errors
    ///
    /// If the module is not loaded or has no BTF.
    pub fn with_module(module: &str) -> Result<Self, Error> {
        let kernel = read(Path::new(VMLINUX))?;
        let path = Path::new(FOLDER).join(module);
        let module = read(&path)?;
        join(&kernel, &module)
            .and_then(Self::parse)
            .ok_or_else(|| Error::Malformed(path.display().to_string()))
    }

    /// From a file that holds raw BTF.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or holds no BTF.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        Self::parse(read(path)?).ok_or_else(|| Error::Malformed(path.display().to_string()))
    }

    /// From raw BTF in the byte order of this machine; `None` if it is malformed.
    #[must_use]
    pub fn parse(data: Vec<u8>) -> Option<Self> {
        let (types, strings) = sections(&data)?;
        let mut btf = Self {
            data,
            types: vec![0],
            strings: strings.start,
            names: Vec::new(),
        };
        let mut at = types.start;
        while at < types.end {
            let kind = btf.type_at(at)?;
            let id = u32::try_from(btf.types.len()).ok()?;
            btf.types.push(u32::try_from(at).ok()?);
            if matches!(
                kind.kind(),
                KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_ENUM64 | KIND_TYPEDEF
            ) && kind.name != 0
            {
                btf.names.push((digest(btf.bytes(kind.name)?), id));
            }
            at = kind.rest.checked_add(Self::rest_len(kind)?)?;
        }
        btf.names.sort_unstable();
        (at == types.end).then_some(btf)
    }

    /// Bytes that follow a type's fixed part.
    fn rest_len(kind: Type) -> Option<usize> {
        Some(match kind.kind() {
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => kind.len() * 12,
            KIND_ENUM | KIND_FUNC_PROTO => kind.len() * 8,
            KIND_PTR | KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT
            | KIND_TYPE_TAG | KIND_FUNC | KIND_FWD | 16 => 0,
            _ => return None,
        })
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(
            self.data.get(at..at.checked_add(4)?)?.try_into().ok()?,
        ))
    }

    fn bytes(&self, offset: u32) -> Option<&[u8]> {
        let at = self.strings.checked_add(offset as usize)?;
        self.data.get(at..)?.split(|byte| *byte == 0).next()
    }

    fn string(&self, offset: u32) -> Option<&str> {
        std::str::from_utf8(self.bytes(offset)?).ok()
    }

    /// Whether this string stands at `offset`; faster than taking the one that does.
    fn is_at(&self, offset: u32, string: &str) -> bool {
        let at = self.strings.saturating_add(offset as usize);
        let rest = self.data.get(at..).unwrap_or_default();
        let behind = rest.strip_prefix(string.as_bytes());
        behind.is_some_and(|rest| rest.first() == Some(&0))
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        Some(Type {
            name: self.word(at)?,
            info: self.word(at + 4)?,
            size_or_target: self.word(at + 8)?,
            rest: at + 12,
        })
    }

    fn by_id(&self, id: u32) -> Option<Type> {
        match *self.types.get(id as usize)? {
            0 => None,
            at => self.type_at(at as usize),
        }
    }

    /// Looks through typedefs and qualifiers.
    fn resolved(&self, mut id: u32) -> Option<(u32, Type)> {
        for _ in 0..MAX_DEPTH {
            let kind = self.by_id(id)?;
            match kind.kind() {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = kind.size_or_target;
                }
                _ => return Some((id, kind)),
            }
        }
        None
    }

    /// Identifiers of the types called `name`, in order.
    fn ids<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u32> {
        let digest = digest(name.as_bytes());
        let first = self.names.partition_point(|(other, _)| *other < digest);
        let same = self.names[first..].iter();
        let same = same.take_while(move |(other, _)| *other == digest);
        let ids = same.map(|(_, id)| *id);
        ids.filter(|id| {
            self.by_id(*id)
                .is_some_and(|kind| self.is_at(kind.name, name))
        })
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (u32, Type)> {
        self.ids(name).filter_map(|id| self.resolved(id))
    }

    /// Offset in bits of `path` (such as `nd_net.net`) inside the struct, union
    /// or typedef of one called `structure`. Where several have that name, of
    /// the first that has the member.
    #[must_use]
    pub fn bit_offset(&self, structure: &str, path: &str) -> Option<u32> {
        self.named(structure).find_map(|(_, kind)| {
            let mut offset = 0;
            let mut kind = kind;
            for name in path.split('.') {
                let (at, member) = self.member(kind, name, 0)?;
                offset += at;
                // Only the last one may be no struct.
                if let Some((_, next)) = self.resolved(member) {
                    kind = next;
                }
            }
            Some(offset)
        })
    }

    /// As [`Self::bit_offset`], in bytes.
    #[must_use]
    pub fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        self.bit_offset(structure, path).map(|bits| bits / 8)
    }

    /// Bit offset and type of a member, also of one inside anonymous members.
    fn member(&self, kind: Type, name: &str, depth: u32) -> Option<(u32, u32)> {
        if depth > MAX_DEPTH || !matches!(kind.kind(), KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for i in 0..kind.len() {
            let at = kind.rest + i * 12;
            let (member_name, id, offset) =
                (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
            let offset = if kind.has_bit_fields() {
                offset & 0xff_ffff
            } else {
                offset
            };
            if member_name == 0 {
                if let Some((_, inner)) = self.resolved(id)
                    && let Some((inner_offset, id)) = self.member(inner, name, depth + 1)
                {
                    return Some((offset + inner_offset, id));
                }
            } else if self.string(member_name)? == name {
                return Some((offset, id));
            }
        }
        None
    }

    /// Size in bytes of the struct, union or typedef of one called `name`.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u32> {
        self.named(name)
            .find(|(_, kind)| matches!(kind.kind(), KIND_STRUCT | KIND_UNION))
            .map(|(_, kind)| kind.size_or_target)
    }

    /// Names and values of the enum called `name`; the longest, where several
    /// have that name. Negative values appear as large numbers.
    #[must_use]
    pub fn enumerators(&self, name: &str) -> Option<Vec<(&str, u64)>> {
        self.named(name)
            .filter_map(|(_, kind)| self.values(kind))
            .max_by_key(Vec::len)
    }

    fn values(&self, kind: Type) -> Option<Vec<(&str, u64)>> {
        let width = match kind.kind() {
            KIND_ENUM => 8,
            KIND_ENUM64 => 12,
            _ => return None,
        };
        (0..kind.len())
            .map(|i| {
                let at = kind.rest + i * width;
                let mut value = u64::from(self.word(at + 4)?);
                if width == 12 {
                    value |= u64::from(self.word(at + 8)?) << 32;
                }
                Some((self.string(self.word(at)?)?, value))
            })
            .collect()
    }

    /// Names of all enums, in no order; that of several, several times.
    pub fn enum_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter_map(|(_, id)| {
            let kind = self.by_id(*id)?;
            let is_enum = matches!(kind.kind(), KIND_ENUM | KIND_ENUM64);
            is_enum.then(|| self.string(kind.name)).flatten()
        })
    }

    /// Raw BTF that has only these tracepoints and functions, as far as there are any, by
    /// the identifiers that they have here: for those who would read all types for them.
    #[must_use]
    pub fn only(&self, tracepoints: &[&str], functions: &[&str]) -> Vec<u8> {
        let typedefs = tracepoints.iter().filter_map(|tracepoint| {
            let name = format!("btf_trace_{tracepoint}");
            let id = self.ids(&name).find(|id| self.is_a(*id, KIND_TYPEDEF))?;
            Some((id, name))
        });
        let functions = functions
            .iter()
            .filter_map(|name| Some((self.function(name)?, (*name).to_owned())));
        let wanted: BTreeMap<u32, String> = typedefs.chain(functions).collect();
        // In the place of others stands a type that says nothing.
        let last = wanted.last_key_value().map_or(0, |(id, _)| *id as usize);
        let mut types = vec![[0, KIND_FWD << 24, 0]; last];
        let mut strings = vec![0];
        for (id, name) in wanted {
            let place = (id as usize).checked_sub(1).and_then(|i| types.get_mut(i));
            if let (Some(place), Some(kind)) = (place, self.by_id(id)) {
                *place = [offset(&strings), kind.info, kind.size_or_target];
                strings.extend(name.as_bytes());
                strings.push(0);
            }
        }
        let types: Vec<u8> = types
            .as_flattened()
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        let mut only = header(offset(&types), offset(&strings));
        only.extend(types);
        only.extend(strings);
        only
    }

    fn is_a(&self, id: u32, kind: u32) -> bool {
        self.by_id(id).is_some_and(|found| found.kind() == kind)
    }

    /// The number of the function of that name, where the kernel has one that is not
    /// merely part of others.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<u32> {
        let is_it = |id: &u32| {
            let kind = self.by_id(*id);
            kind.is_some_and(|kind| kind.kind() == KIND_FUNC && self.is_at(kind.name, name))
        };
        let ids = 1..u32::try_from(self.types.len()).ok()?;
        ids.into_iter().find(is_it)
    }

    /// Arguments of a tracepoint, in order; `None` where the kernel has no
    /// tracepoint of that name.
    #[must_use]
    pub fn tracepoint_arguments(&self, tracepoint: &str) -> Option<Vec<Argument>> {
        // typedef void (*btf_trace_NAME)(void *, first argument, …)
        let name = format!("btf_trace_{tracepoint}");
        let (_, pointer) = self.named(&name).next()?;
        let (_, function) = self.resolved(pointer.size_or_target)?;
        if pointer.kind() != KIND_PTR || function.kind() != KIND_FUNC_PROTO {
            return None;
        }
        (1..function.len())
            .map(|i| {
                let (_, kind) = self.resolved(self.word(function.rest + i * 8 + 4)?)?;
                Some(match kind.kind() {
                    KIND_PTR => Argument::Pointer,
                    KIND_ENUM | KIND_ENUM64 => Argument::Enum,
                    _ => Argument::Other,
                })
            })
            .collect()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::Read {
        path: path.display().to_string(),
        error,
    })
}

/// Where types and strings stand in raw BTF; `None` if it is malformed.
fn sections(data: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    let word = |at: usize| Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?));
    let magic = u16::from_ne_bytes(data.get(..2)?.try_into().ok()?);
    let header = word(4)? as usize;
    let section = |at: usize| {
        let start = header.checked_add(word(at)? as usize)?;
        Some(start..start.checked_add(word(at + 4)? as usize)?)
    };
    let (types, strings) = (section(8)?, section(16)?);
    let is_whole = magic == MAGIC && types.end <= data.len() && strings.end <= data.len();
    is_whole.then_some((types, strings))
}

/// What stands before so many bytes of types and of strings.
fn header(types_len: u32, strings_len: u32) -> Vec<u8> {
    const VERSION: u8 = 1;
    const LEN: u32 = 24;
    let mut header = MAGIC.to_ne_bytes().to_vec();
    header.extend([VERSION, 0]);
    for word in [LEN, 0, types_len, types_len, strings_len] {
        header.extend(word.to_ne_bytes());
    }
    header
}

/// Where the next byte comes.
fn offset(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn digest(name: &[u8]) -> u32 {
    let digest = BuildHasherDefault::<DefaultHasher>::default().hash_one(name);
    u32::try_from(digest >> 32).unwrap_or_default()
}

/// One BTF out of the kernel's and a module's, whose identifiers and strings go
/// on where the kernel's end.
fn join(kernel: &[u8], module: &[u8]) -> Option<Vec<u8>> {
    let (kernel_types, kernel_strings) = sections(kernel)?;
    let (module_types, module_strings) = sections(module)?;
    let types_len = u32::try_from(kernel_types.len() + module_types.len()).ok()?;
    let strings_len = u32::try_from(kernel_strings.len() + module_strings.len()).ok()?;
    let mut joined = header(types_len, strings_len);
    joined.extend(&kernel[kernel_types]);
    joined.extend(&module[module_types]);
    joined.extend(&kernel[kernel_strings]);
    joined.extend(&module[module_strings]);
    Some(joined)
}

#[cfg(test)]
mod tests;
