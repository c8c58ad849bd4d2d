//! What a launch did, counted exactly.

/// What an instruction is, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Integer and bit arithmetic, address computation, selection, moves.
    Integer,
    /// f32, f16 and bf16 arithmetic but for fused multiply-adds.
    Float,
    /// Fused multiply-adds (f32, f16, bf16): two operations a lane and element.
    Fma,
    /// f64 arithmetic.
    Double,
    /// Approximate functions: ex2, lg2, sin, cos, rcp, rsqrt, sqrt, tanh, div.
    Special,
    /// Conversions.
    Convert,
    /// Comparisons and predicate logic.
    Predicate,
    /// Branches, calls, returns, exits.
    Control,
    /// Loads from global or generic memory (`ld`, `ldu`).
    LoadGlobal,
    /// Stores to global or generic memory.
    StoreGlobal,
    /// Loads from shared memory, ldmatrix included.
    LoadShared,
    /// Stores to shared memory.
    StoreShared,
    /// Loads and stores of local memory.
    Local,
    /// Loads of parameters and constants.
    Constant,
    /// Atomics and reductions on memory.
    Atomic,
    /// cp.async and its groups.
    AsyncCopy,
    /// Shuffles, votes, matches, redux.
    Warp,
    /// Barriers, fences, mbarrier.
    Barrier,
    /// mma and wmma.
    Tensor,
    /// Everything else.
    Other,
}

impl Class {
    /// All of them, in the order in which tables show them.
    pub const ALL: [Class; 20] = [
        Class::Integer,
        Class::Float,
        Class::Fma,
        Class::Double,
        Class::Special,
        Class::Convert,
        Class::Predicate,
        Class::Control,
        Class::LoadGlobal,
        Class::StoreGlobal,
        Class::LoadShared,
        Class::StoreShared,
        Class::Local,
        Class::Constant,
        Class::Atomic,
        Class::AsyncCopy,
        Class::Warp,
        Class::Barrier,
        Class::Tensor,
        Class::Other,
    ];

    /// Index into arrays by class.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// What a launch did. Sums over all blocks; independent of the order in which they ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Warp instructions issued, by [`Class`].
    pub warp_instructions: [u64; 20],
    /// Lanes active in them, by [`Class`]: at most 32 times the above.
    pub lane_instructions: [u64; 20],
    /// 32-byte sectors that loads from global memory asked for, a warp instruction at a time.
    pub global_load_sectors: u64,
    /// The fewest sectors that could hold the bytes that those loads read.
    pub global_load_sectors_minimum: u64,
    /// As for loads.
    pub global_store_sectors: u64,
    /// As for loads.
    pub global_store_sectors_minimum: u64,
    /// Different sectors of global memory that the launch read.
    pub unique_sectors_read: u64,
    /// Different sectors of global memory that the launch wrote.
    pub unique_sectors_written: u64,
    /// Passes that shared memory needed: one an access without conflicts (two for 64-bit, four for 128-bit lanes).
    pub shared_passes: u64,
    /// Passes beyond those: bank conflicts.
    pub shared_conflicts: u64,
    /// Floating-point operations of mma: 2 m n k each.
    pub tensor_flops: u64,
    /// Those of them that were in tf32, which runs at half the rate of f16.
    pub tensor_tf32_flops: u64,
    /// Floating-point operations of everything else in f32, f16, bf16 (a fused multiply-add counts 2, and again twice
    /// for packed pairs).
    pub flops: u64,
    /// Floating-point operations in f64.
    pub double_flops: u64,
    /// Barriers that blocks passed.
    pub barriers: u64,
    /// Branches at which the lanes of a warp parted.
    pub divergent_branches: u64,
}

impl Counters {
    /// Adds what another block or launch did. Unique sectors add up too: the caller knows whether that makes sense.
    pub fn add(&mut self, other: &Counters) {
        let pairs = self.warp_instructions.iter_mut().zip(&other.warp_instructions);
        pairs.for_each(|(to, from)| *to += from);
        let pairs = self.lane_instructions.iter_mut().zip(&other.lane_instructions);
        pairs.for_each(|(to, from)| *to += from);
        self.global_load_sectors += other.global_load_sectors;
        self.global_load_sectors_minimum += other.global_load_sectors_minimum;
        self.global_store_sectors += other.global_store_sectors;
        self.global_store_sectors_minimum += other.global_store_sectors_minimum;
        self.unique_sectors_read += other.unique_sectors_read;
        self.unique_sectors_written += other.unique_sectors_written;
        self.shared_passes += other.shared_passes;
        self.shared_conflicts += other.shared_conflicts;
        self.tensor_flops += other.tensor_flops;
        self.tensor_tf32_flops += other.tensor_tf32_flops;
        self.flops += other.flops;
        self.double_flops += other.double_flops;
        self.barriers += other.barriers;
        self.divergent_branches += other.divergent_branches;
    }
    /// Warp instructions of all classes.
    pub fn all_warp_instructions(&self) -> u64 {
        self.warp_instructions.iter().sum()
    }

    /// Lane instructions of all classes.
    pub fn all_lane_instructions(&self) -> u64 {
        self.lane_instructions.iter().sum()
    }

    /// Sectors that loads and stores of global memory asked for.
    pub fn global_sectors(&self) -> u64 {
        self.global_load_sectors + self.global_store_sectors
    }

    /// The fewest sectors that could hold their bytes.
    pub fn global_sectors_minimum(&self) -> u64 {
        self.global_load_sectors_minimum + self.global_store_sectors_minimum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Every count in the JSON of a [`Counters`] replaced by its own number.
    fn number(value: &mut Value, next: &mut u64) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| number(item, next)),
            Value::Object(fields) => fields.values_mut().for_each(|field| number(field, next)),
            _ => {
                *value = json!(*next);
                *next += 1;
            }
        }
    }

    /// Every count in it doubled.
    fn double(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(double),
            Value::Object(fields) => fields.values_mut().for_each(double),
            count => *count = json!(2 * count.as_u64().unwrap()),
        }
    }

    #[test]
    fn adding_reaches_every_count() {
        let mut value = serde_json::to_value(Counters::default()).unwrap();
        number(&mut value, &mut 1);
        let mut sum: Counters = serde_json::from_value(value.clone()).unwrap();
        let other = sum.clone();
        sum.add(&other);
        double(&mut value);
        assert_eq!(serde_json::to_value(&sum).unwrap(), value);
    }

    #[test]
    fn classes_are_indexed_in_the_order_of_their_list() {
        for (index, class) in Class::ALL.iter().enumerate() {
            assert_eq!(class.index(), index);
        }
    }

    #[test]
    fn counts_that_an_older_file_lacks_are_zero() {
        let older: Counters = serde_json::from_value(json!({ "flops": 7 })).unwrap();
        assert_eq!(older, Counters { flops: 7, ..Counters::default() });
    }
}
