//! Does the check notice each thing that can be missing?

use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{self, SymbolSection},
};

use super::*;

/// A kernel object with everything in it but what `leave_out` names.
fn object(leave_out: &str, licence: &[u8]) -> Vec<u8> {
    let mut object = write::Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let mut define = |name: &str, section: &str, kind, bytes: &[u8]| {
        if name == leave_out {
            return;
        }
        let (section_kind, is_symbol) = match kind {
            SymbolKind::Text => (SectionKind::Text, true),
            SymbolKind::Data => (SectionKind::Data, true),
            _ => (SectionKind::Other, false),
        };
        let id = object.add_section(Vec::new(), section.into(), section_kind);
        let value = object.append_section_data(id, bytes, 8);
        if is_symbol {
            object.add_symbol(write::Symbol {
                name: name.into(),
                value,
                size: bytes.len() as u64,
                kind,
                scope: SymbolScope::Dynamic,
                weak: false,
                section: SymbolSection::Section(id),
                flags: SymbolFlags::None,
            });
        }
    };
    for (name, section) in PROGRAMS {
        define(name, section, SymbolKind::Text, &[0; 16]);
    }
    for (i, name) in MAPS.into_iter().enumerate() {
        let section = if i % 2 == 0 { "maps" } else { ".maps" };
        define(name, section, SymbolKind::Data, &[0; 28]);
    }
    for name in GLOBALS {
        define(name, ".rodata", SymbolKind::Data, &[0; 4]);
    }
    define("license", "license", SymbolKind::Unknown, licence);
    for name in BTF_SECTIONS {
        define(name, name, SymbolKind::Unknown, &[1; 24]);
    }
    object.write().unwrap()
}

fn missing(leave_out: &str, licence: &[u8]) -> Vec<String> {
    parse(&object(leave_out, licence)).unwrap().missing()
}

const GOOD: &[u8] = b"Dual MIT/GPL\0";

#[test]
fn nothing_is_missing_in_a_complete_object() {
    assert_eq!(missing("", GOOD), Vec::<String>::new());
    assert!(parse(&object("", GOOD)).unwrap().complete().is_ok());
}

#[test]
fn each_program_map_global_and_section_is_named_when_missing() {
    for (name, section) in PROGRAMS {
        let expected = format!("program {name} in section {section}");
        assert_eq!(missing(name, GOOD), [expected]);
    }
    for name in MAPS {
        assert_eq!(missing(name, GOOD), [format!("map {name}")]);
    }
    for name in GLOBALS {
        assert_eq!(missing(name, GOOD), [format!("global {name}")]);
    }
    for name in BTF_SECTIONS {
        assert_eq!(missing(name, GOOD), [format!("section {name}")]);
    }
}

#[test]
fn other_licence_or_none_is_an_error() {
    let other = missing("", b"MIT\0");
    assert_eq!(other, ["licence `Dual MIT/GPL` (found: MIT)"]);
    let none = missing("license", GOOD);
    assert_eq!(none, ["licence `Dual MIT/GPL` (found: none)"]);
}

#[test]
fn error_names_all_that_is_missing() {
    let error = parse(&object("COUNTS", b"MIT\0")).unwrap().complete();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("lacks map COUNTS, licence"), "{error}");
}

#[test]
fn table_counts_instructions() {
    let table = parse(&object("", GOOD)).unwrap().to_string();
    let row = table.lines().find(|line| line.starts_with("kfree_skb "));
    let cells: Vec<_> = row.unwrap().split_whitespace().collect();
    assert_eq!(cells, ["kfree_skb", "tp_btf/kfree_skb", "16", "2"]);
    assert!(table.contains("\nLAYOUT "), "{table}");
}

#[test]
fn bytes_that_are_no_object_are_an_error() {
    assert!(parse(b"not an object").is_err());
}
