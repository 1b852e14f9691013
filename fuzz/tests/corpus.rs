//! Every fuzz target on the inputs of its corpus, and, when asked for (`--ignored`), on what mutations make of them.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use k8w_fuzz::{Target, all};
use libtest_mimic::{Arguments, Failed, Trial};

/// Mutations of a target's corpus: a bounded run, the same each time.
const MUTATIONS: u64 = 20_000;
/// Longest input that mutations make.
const MAX_BYTES: usize = 4 << 10;

fn main() {
    let trials = all().iter().flat_map(|target| {
        [
            Trial::test(format!("corpus::{}", target.name), || corpus(*target)),
            Trial::test(format!("mutations::{}", target.name), || mutations(*target)).with_ignored_flag(true),
        ]
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn corpus(target: Target) -> Result<(), Failed> {
    inputs(target)?.iter().try_for_each(|input| hold(target, input))
}

fn mutations(target: Target) -> Result<(), Failed> {
    let inputs = inputs(target)?;
    let mut random = Random(1);
    (0..MUTATIONS).try_for_each(|_| hold(target, &mutated(&inputs, &mut random)))
}

/// The corpus in the order of its names; an empty one is a mistake.
fn inputs(target: Target) -> Result<Vec<Vec<u8>>, Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut files = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    if files.is_empty() {
        return Err(format!("{} is empty", folder.display()).into());
    }
    Ok(files.iter().map(fs::read).collect::<Result<_, _>>()?)
}

/// Says which input it was that broke a property.
fn hold(target: Target, input: &[u8]) -> Result<(), Failed> {
    catch_unwind(AssertUnwindSafe(|| (target.check)(input)))
        .map_err(|_| format!("{} does not hold for b\"{}\"", target.name, input.escape_ascii()).into())
}

/// One input, after a few edits: bytes changed, removed, doubled, or taken from another input.
fn mutated(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(inputs).clone();
    for _ in 0..=random.below(4) {
        let (from, to) = random.range(input.len());
        match random.below(5) {
            0 => input[from..to].iter_mut().take(2).for_each(|byte| *byte = random.next() as u8),
            1 => drop(input.drain(from..to)),
            2 => {
                let piece = input[from..to].to_vec();
                input.splice(from..from, piece);
            }
            3 => {
                let other = random.pick(inputs);
                let (start, end) = random.range(other.len());
                input.splice(from..to, other[start..end].iter().copied());
            }
            _ => input.insert(from, random.next() as u8),
        }
    }
    input.truncate(MAX_BYTES);
    input
}

/// SplitMix64: numbers that are the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'i>(&mut self, inputs: &'i [Vec<u8>]) -> &'i Vec<u8> {
        &inputs[self.below(inputs.len())]
    }

    /// A range of an input of this length.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let from = self.below(length + 1);
        (from, from + self.below(length - from + 1))
    }
}
