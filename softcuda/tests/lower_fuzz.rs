//! Loading of modules that are PTX by their grammar only: no panic, no hang; what cannot be run says so in one line.

use softcuda::checks::Checks;
use softcuda::machine::memory::{Kind, Memory};
use softcuda::machine::{Launch, run};
use softcuda::model::devices::Device;
use softcuda::module::Module;

/// A small generator (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }
}

const TEXTS: [&str; 8] = [
    include_str!("ptx/mma_gemm.ptx"),
    include_str!("ptx/warp.ptx"),
    include_str!("ptx/atomics.ptx"),
    include_str!("ptx/struct_params.ptx"),
    include_str!("ptx/device_functions.ptx"),
    include_str!("ptx/half.ptx"),
    include_str!("ptx/mbarrier.ptx"),
    include_str!("ptx/reduce.ptx"),
];

/// A word of a line: what stands between separators.
fn words(line: &str) -> Vec<&str> {
    line.split([' ', '\t', ',', ';', '[', ']', '{', '}', '(', ')', '+'])
        .filter(|word| !word.is_empty())
        .collect()
}

/// Exchanges words of lines for words of others, or for numbers that nothing can be.
fn mutate(text: &str, random: &mut Random) -> String {
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    for _ in 0..1 + random.below(4) {
        let at = random.below(lines.len());
        let other = lines[random.below(lines.len())].clone();
        let (mine, theirs) = (words(&lines[at]), words(&other));
        if mine.is_empty() || theirs.is_empty() {
            continue;
        }
        let from = mine[random.below(mine.len())].to_string();
        let numbers = ["0", "-1", "4294967295", "9223372036854775807", "18446744073709551615", "65"];
        let to = match random.below(4) {
            0 => numbers[random.below(numbers.len())].to_string(),
            1 => other.trim_end_matches(';').trim().to_string(),
            _ => theirs[random.below(theirs.len())].to_string(),
        };
        lines[at] = lines[at].replacen(&from, &to, 1);
    }
    lines.join("\n")
}

/// Loads a text, and runs what can be run of it with pointers to little memory.
fn survives(text: &str) {
    let device = Device::by_name("h100").unwrap();
    let memory = Memory::new(1 << 30);
    let Ok(module) = Module::load(text.as_bytes(), device, &memory) else { return };
    let address = memory.allocate(256, Kind::Device).unwrap();
    for kernel in module.kernels() {
        if let Err(reason) = &kernel.steps {
            assert!(!reason.is_empty() && !reason.contains('\n'), "{reason}");
            continue;
        }
        if kernel.shared_bytes > 1 << 20 {
            continue;
        }
        let parameters: Vec<u8> =
            address.to_le_bytes().into_iter().cycle().take(kernel.parameter_bytes as usize).collect();
        let launch = Launch {
            kernel,
            grid: [1; 3],
            block: [40, 1, 1],
            dynamic_shared_bytes: 1024,
            parameters: &parameters,
            seed: 1,
            checks: Checks::all(),
            device,
        };
        run(&launch, &memory);
    }
}

#[test]
fn mutated_modules_are_loaded_or_refused() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for case in 0..400 {
        survives(&mutate(TEXTS[case % TEXTS.len()], &mut random));
    }
}

#[test]
fn sizes_that_nothing_can_have_are_refused_in_one_line() {
    let device = Device::by_name("h100").unwrap();
    for (body, message) in [
        (".local .b8 x[18446744073709551615]; ret;", "local memory"),
        (".local .b8 x[600000]; ret;", "600000 bytes of local memory a thread, at most 524288"),
        (".shared .b8 x[18446744073709551615]; ret;", "shared memory"),
        (".reg .b32 %r<4000000000>; ret;", "too many"),
        ("bra nowhere;", "no label is called `nowhere`"),
        ("add.s32 %r1, %r2, %r3;", "`%r"),
    ] {
        let memory = Memory::new(1 << 30);
        let text = format!(".version 7.8\n.target sm_80\n.address_size 64\n.visible .entry k() {{ {body} }}");
        match Module::load(text.as_bytes(), device, &memory) {
            Err(error) => assert!(error.log.contains("line"), "{body}: {error}"),
            Ok(module) => {
                let kernel = module.kernel("k").unwrap();
                let reason = kernel.steps.as_ref().err().unwrap_or_else(|| panic!("{body}: can be run"));
                assert!(reason.contains(message), "{body}: {reason}");
            }
        }
    }
}
