//! What of a kernel object does droptrace not need?

use anyhow::Result;
use object::{
    build::elf::{Builder, Section, SectionData},
    elf::SHT_STRTAB,
};

/// The object without the compiler's debug information, of which bpf-linker has made the BTF
/// by then. It is most of the file, and at every start aya would read its relocations.
pub fn debug_information(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object)?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        let name = name.strip_prefix(b".rel").unwrap_or(name);
        section.delete = name.starts_with(b".debug_");
    }
    builder.delete_orphans();
    let is_names = |section: &Section| matches!(section.data, SectionData::SectionString);
    if !builder.sections.iter().any(is_names) {
        // LLVM puts the names of sections among those of symbols, which the builder does not.
        let names = builder.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = SHT_STRTAB;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use object::{
        Architecture, BinaryFormat, Endianness, Object as _, ObjectSection as _, ObjectSymbol as _,
        SectionKind, SymbolFlags, SymbolKind, SymbolScope,
        write::{self, Relocation, RelocationFlags, SymbolSection},
    };

    use super::*;

    #[test]
    fn only_debug_information_goes() {
        let mut whole =
            write::Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
        for (name, kind) in [
            (".text", SectionKind::Text),
            (".debug_info", SectionKind::Debug),
            (".BTF", SectionKind::Other),
        ] {
            let section = whole.add_section(Vec::new(), name.into(), kind);
            whole.append_section_data(section, name.as_bytes(), 8);
            let symbol = whole.add_symbol(write::Symbol {
                name: format!("symbol of {name}").into(),
                value: 0,
                size: 8,
                kind: SymbolKind::Data,
                scope: SymbolScope::Dynamic,
                weak: false,
                section: SymbolSection::Section(section),
                flags: SymbolFlags::None,
            });
            let r_type = object::elf::R_BPF_64_64;
            let relocation = Relocation {
                offset: 0,
                symbol,
                addend: 0,
                flags: RelocationFlags::Elf { r_type },
            };
            whole.add_relocation(section, relocation).unwrap();
        }
        let stripped = debug_information(&whole.write().unwrap()).unwrap();
        let stripped = object::File::parse(&*stripped).unwrap();
        let data = |name| {
            stripped
                .section_by_name(name)
                .map(|found| found.data().unwrap())
        };
        assert_eq!(data(".text"), Some(&b".text"[..]));
        assert_eq!(data(".BTF"), Some(&b".BTF"[..]));
        assert!(data(".rel.text").is_some() && data(".rel.BTF").is_some());
        assert_eq!(data(".debug_info"), None);
        assert_eq!(data(".rel.debug_info"), None);
        let symbols = stripped.symbols().filter_map(|symbol| symbol.name().ok());
        let symbols: Vec<_> = symbols.filter(|name| !name.is_empty()).collect();
        assert_eq!(symbols, ["symbol of .text", "symbol of .BTF"]);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(debug_information(b"not ELF").is_err());
    }
}
