//! Calls of the kernel's own functions (kfuncs), which aya does not put into an object yet.
//! <https://github.com/torvalds/linux/blob/v6.17/Documentation/bpf/kfuncs.rst>

use std::borrow::Cow;

use aya_obj::generated::{BPF_CALL, BPF_JMP, BPF_PSEUDO_KFUNC_CALL};
use droptrace_types::{Config, kfunc};
use object::{Object as _, ObjectSection as _, SectionKind};

/// An instruction as the kernel knows it: what to do, registers, an offset, a number.
type Instruction = [u8; 8];

/// The object with calls of those functions that the kernel is said to have.
///
/// # Errors
///
/// If it is no object.
pub fn resolve<'a>(object: &'a [u8], config: &Config) -> Result<Cow<'a, [u8]>, object::Error> {
    let calls = [
        (kfunc::PREEMPT_DISABLE, config.preempt_disable),
        (kfunc::PREEMPT_ENABLE, config.preempt_enable),
        (kfunc::RDONLY_CAST, config.rdonly_cast),
    ]
    .map(|(placeholder, function)| {
        let resolved = call(BPF_PSEUDO_KFUNC_CALL, function);
        (call(0, placeholder), (function != 0).then_some(resolved))
    });
    if calls.iter().all(|(_, resolved)| resolved.is_none()) {
        return Ok(object.into());
    }
    let mut result = object.to_vec();
    for section in object::File::parse(object)?.sections() {
        if section.kind() != SectionKind::Text {
            continue;
        }
        let code = section.file_range().and_then(|(start, len)| {
            let start = usize::try_from(start).ok()?;
            result.get_mut(start..start.checked_add(usize::try_from(len).ok()?)?)
        });
        let (instructions, _) = code.unwrap_or_default().as_chunks_mut::<8>();
        for instruction in instructions {
            let called = calls
                .iter()
                .find(|(placeholder, _)| placeholder == instruction);
            if let Some((_, Some(resolved))) = called {
                *instruction = *resolved;
            }
        }
    }
    Ok(result.into())
}

/// A call of what has this number, among what has this kind.
fn call(kind: u32, number: u32) -> Instruction {
    let [code, kind] = [BPF_JMP | BPF_CALL, kind].map(|part| part.to_le_bytes()[0]);
    let [a, b, c, d] = number.to_ne_bytes();
    // The source register is the upper half of its byte.
    [code, kind << 4, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::{super::programs::OBJECT_LOADS, *};

    const CONFIG: Config = Config {
        preempt_disable: 11,
        preempt_enable: 12,
        ..Config::DEFAULT
    };

    /// How many times `call` stands in the object.
    fn count(object: &[u8], call: Instruction) -> usize {
        let (instructions, _) = object.as_chunks::<8>();
        instructions.iter().filter(|word| **word == call).count()
    }

    #[test]
    fn the_functions_that_there_are_take_their_places() {
        let resolved = resolve(OBJECT_LOADS, &CONFIG).unwrap();
        for (placeholder, function) in [(kfunc::PREEMPT_DISABLE, 11), (kfunc::PREEMPT_ENABLE, 12)] {
            let calls = count(OBJECT_LOADS, call(0, placeholder));
            assert_ne!(calls, 0);
            assert_eq!(count(&resolved, call(0, placeholder)), 0);
            let function = call(BPF_PSEUDO_KFUNC_CALL, function);
            assert_eq!(count(&resolved, function), calls);
        }
        let others = call(0, kfunc::RDONLY_CAST);
        assert_ne!(count(OBJECT_LOADS, others), 0);
        assert_eq!(count(&resolved, others), count(OBJECT_LOADS, others));
        let unresolved = resolve(OBJECT_LOADS, &Config::DEFAULT).unwrap();
        assert_eq!(unresolved, OBJECT_LOADS);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(resolve(b"not ELF", &CONFIG).is_err());
    }
}
