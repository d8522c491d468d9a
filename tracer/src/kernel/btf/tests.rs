//! BTF written by hand, read back.

use super::*;

/// Writes BTF as the kernel's documentation describes it.
#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Writer {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types
            .extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    /// A type with `members` of three or two words that follow it.
    fn kind(&mut self, kind: u32, name: &str, size_or_target: u32, members: &[&[u32]]) {
        let name = self.name(name);
        let count = u32::try_from(members.len()).unwrap();
        self.words(&[name, kind << 24 | count, size_or_target]);
        for member in members {
            self.words(member);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.name("");
        let (types, strings) = (self.types.len(), self.strings.len());
        let mut data = Vec::new();
        data.extend(MAGIC.to_ne_bytes());
        data.extend([1, 0]);
        for word in [24, 0, types, types, strings] {
            data.extend(u32::try_from(word).unwrap().to_ne_bytes());
        }
        data.extend(self.types);
        data.extend(self.strings);
        data
    }
}

/// `int`, two structs of one name, an anonymous union, a typedef, an enum,
/// a tracepoint and a function.
fn sample() -> Vec<u8> {
    let mut btf = Writer::default();
    let (a, b, c, inner) = (
        btf.name("a"),
        btf.name("b"),
        btf.name("c"),
        btf.name("inner"),
    );
    let (one, two) = (btf.name("ONE"), btf.name("MINUS_TWO"));
    btf.kind(KIND_INT, "int", 4, &[]); // 1, and a word more
    btf.words(&[32]);
    btf.kind(KIND_STRUCT, "pair", 4, &[&[a, 1, 0]]); // 2
    btf.kind(KIND_UNION, "", 8, &[&[b, 1, 0], &[c, 1, 8]]); // 3
    btf.kind(
        KIND_STRUCT,
        "pair",
        16,
        &[&[a, 1, 0], &[0, 3, 64], &[inner, 5, 96]],
    ); // 4
    btf.kind(KIND_TYPEDEF, "pair_t", 2, &[]); // 5
    btf.kind(
        KIND_ENUM,
        "numbers",
        4,
        &[&[one, 1], &[two, (-2_i32).cast_unsigned()]],
    ); // 6
    btf.kind(KIND_PTR, "", 1, &[]); // 7
    btf.kind(
        KIND_FUNC_PROTO,
        "",
        0,
        &[&[0, 7], &[0, 7], &[0, 6], &[0, 1]],
    ); // 8
    btf.kind(KIND_PTR, "", 8, &[]); // 9
    btf.kind(KIND_TYPEDEF, "btf_trace_event", 9, &[]); // 10
    btf.kind(KIND_FUNC, "tcp_drop", 8, &[]); // 11
    btf.finish()
}

#[test]
fn of_two_structs_with_a_name_the_one_with_the_member_counts() {
    let btf = Btf::parse(sample()).unwrap();
    assert_eq!(btf.offset("pair", "a"), Some(0));
    assert_eq!(btf.offset("pair", "b"), Some(8));
    assert_eq!(btf.bit_offset("pair", "c"), Some(72));
    assert_eq!(btf.offset("pair", "inner.a"), Some(12));
    assert_eq!(btf.offset("pair_t", "a"), Some(0));
    assert_eq!(btf.offset("pair", "d"), None);
    assert_eq!(btf.offset("pear", "a"), None);
    assert_eq!(btf.size("pair"), Some(4));
}

#[test]
fn a_module_goes_on_where_the_kernel_ends() {
    let kernel = sample();
    let (types, strings) = (11, sections(&kernel).unwrap().1.len());
    let at = |offset: usize| u32::try_from(strings + offset).unwrap();
    // Strings of its own: "\0entry\0mark\0".
    let mut module = Writer::default();
    module.strings.extend(b"\0entry\0mark\0");
    // struct entry { int mark, at byte 4; struct pair (the second one) at 8 }
    module.words(&[at(1), KIND_STRUCT << 24 | 2, 24]);
    module.words(&[at(7), 1, 32, at(7) + 1, types - 7, 64]);
    let joined = join(&kernel, &module.finish()).unwrap();
    let btf = Btf::parse(joined).unwrap();
    assert_eq!(btf.offset("entry", "mark"), Some(4));
    assert_eq!(btf.offset("entry", "ark.b"), Some(16));
    assert_eq!(btf.offset("pair", "b"), Some(8));
}

#[test]
fn enumerators_and_tracepoint_arguments_are_read() {
    let btf = Btf::parse(sample()).unwrap();
    let numbers = vec![("ONE", 1), ("MINUS_TWO", 0xffff_fffe)];
    assert_eq!(btf.enumerators("numbers"), Some(numbers));
    assert_eq!(btf.enum_names().collect::<Vec<_>>(), ["numbers"]);
    let arguments = vec![Argument::Pointer, Argument::Enum, Argument::Other];
    assert_eq!(btf.tracepoint_arguments("event"), Some(arguments));
    assert_eq!(btf.tracepoint_arguments("other"), None);
}

#[test]
fn functions_are_known_by_name() {
    let btf = Btf::parse(sample()).unwrap();
    let id = btf.function("tcp_drop").unwrap();
    assert_eq!(btf.by_id(id).unwrap().kind(), KIND_FUNC);
    assert_eq!(btf.function("pair").or(btf.function("other")), None);
}

#[test]
fn what_has_only_some_types_has_them_by_the_same_identifiers() {
    let whole = Btf::parse(sample()).unwrap();
    let some = whole.only(&["event", "other"], &["tcp_drop"]);
    let some = Btf::parse(some).unwrap();
    assert_eq!(some.types.len(), whole.types.len());
    let event = |btf: &Btf| btf.ids("btf_trace_event").collect::<Vec<_>>();
    assert_eq!(event(&some), event(&whole));
    assert_eq!(event(&some).len(), 1);
    assert_eq!(some.function("tcp_drop"), whole.function("tcp_drop"));
    assert!(some.function("tcp_drop").is_some());
    assert_eq!(some.size("pair"), None);
}

#[test]
fn broken_data_is_refused_or_read_without_harm() {
    let good = sample();
    for len in 0..good.len() {
        assert!(Btf::parse(good[..len].to_vec()).is_none());
    }
    for at in 0..good.len() {
        for value in [0, 0x7f, 0xff] {
            let mut data = good.clone();
            data[at] = value;
            if let Some(btf) = Btf::parse(data) {
                let _ = btf.offset("pair", "inner.a");
                let _ = btf.enumerators("numbers");
                let _ = btf.tracepoint_arguments("event");
                let _ = btf.function("tcp_drop");
                let _ = btf.only(&["event"], &["tcp_drop"]);
            }
        }
    }
}
