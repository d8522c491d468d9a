//! Which Debian packages a program needs: those of the libraries that it names.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use object::{
    Endianness, FileKind,
    read::elf::{FileHeader, SectionHeader},
};

/// Library, and the package that has it.
const PACKAGES: [(&str, &str); 5] = [
    ("libc.so.6", "libc6"),
    ("libm.so.6", "libc6"),
    ("ld-linux-x86-64.so.2", "libc6"),
    ("ld-linux-aarch64.so.1", "libc6"),
    ("libgcc_s.so.1", "libgcc-s1"),
];

/// As the field `Depends` has them.
pub fn of(program: &Path) -> Result<String> {
    let what = || format!("could not read what {} links", program.display());
    let data = fs::read(program).with_context(what)?;
    if FileKind::parse(&*data).with_context(what)? != FileKind::Elf64 {
        bail!("{} is no 64-bit program", program.display());
    }
    let needs = needed(&data).with_context(what)?;
    depends(&needs)
}

/// Libraries, each with the versions of its symbols, such as `GLIBC_2.34`.
type Needs = Vec<(String, Vec<String>)>;

fn needed(data: &[u8]) -> Result<Needs> {
    let header = object::elf::FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let mut needs = Needs::new();
    for section in sections.iter() {
        let Some((mut files, link)) = section.gnu_verneed(endian, data)? else {
            continue;
        };
        let strings = sections.strings(endian, data, link)?;
        while let Some((file, mut versions)) = files.next()? {
            let mut names = Vec::new();
            while let Some(version) = versions.next()? {
                names.push(text(version.name(endian, strings)?));
            }
            needs.push((text(file.file(endian, strings)?), names));
        }
    }
    Ok(needs)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn depends(needs: &Needs) -> Result<String> {
    let mut packages = BTreeSet::new();
    let mut glibc = None;
    for (library, versions) in needs {
        let Some((_, package)) = PACKAGES.iter().find(|(name, _)| name == library) else {
            bail!(
                "no Debian package is known for the library {library}; add it to {}",
                file!()
            );
        };
        let of_glibc = versions
            .iter()
            .filter_map(|name| name.strip_prefix("GLIBC_"))
            .filter_map(numbers);
        glibc = glibc.max(of_glibc.max());
        packages.insert(*package);
    }
    let (Some((major, minor)), true) = (glibc, packages.remove("libc6")) else {
        bail!("the program does not link the C library, which droptrace does");
    };
    let mut depends = vec![format!("libc6 (>= {major}.{minor})")];
    depends.extend(packages.into_iter().map(ToOwned::to_owned));
    Ok(depends.join(", "))
}

/// Of `2.34`, or of `2.2.5` the first two.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(of: &[(&str, &[&str])]) -> Needs {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        of.iter()
            .map(|(library, versions)| ((*library).to_owned(), owned(versions)))
            .collect()
    }

    #[test]
    fn the_newest_symbol_decides() {
        let needs = needs(&[
            ("libgcc_s.so.1", &["GCC_3.0"]),
            ("libm.so.6", &["GLIBC_2.29"]),
            ("libc.so.6", &["GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.9"]),
        ]);
        assert_eq!(depends(&needs).unwrap(), "libc6 (>= 2.34), libgcc-s1");
    }

    #[test]
    fn a_library_without_a_package_is_refused() {
        let needs = needs(&[("libelf.so.1", &["ELFUTILS_1.0"])]);
        let error = depends(&needs).unwrap_err().to_string();
        assert!(error.contains("libelf.so.1"), "{error}");
    }

    #[test]
    fn this_very_program_is_understood() {
        let depends = of(&std::env::current_exe().unwrap()).unwrap();
        assert!(depends.starts_with("libc6 (>= 2."), "{depends}");
    }
}
