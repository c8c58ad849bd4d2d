//! Calls what a family decodes an instruction to on single values.

use super::{Element, Maps, Work};
use crate::ptx::ast::{Instruction, Statement};

/// What an instruction does to the bits of one lane: inputs to results.
pub type Lane = Box<dyn Fn(&[u64]) -> Vec<u64>>;

/// The [`Maps`] of the tests.
#[derive(Clone, Copy)]
pub struct Single;

impl Maps for Single {
    type Output = (Work, Lane);
    type Rare = Single;

    fn rarely(self) -> Single {
        self
    }

    fn map1<A: Element, R: Element>(
        self,
        work: Work,
        f: impl Fn(A) -> R + Copy + Send + Sync + 'static,
    ) -> Self::Output {
        (work, Box::new(move |x| vec![f(A::from_bits(x[0])).to_bits()]))
    }

    fn map2<A: Element, B: Element, R: Element>(
        self,
        work: Work,
        f: impl Fn(A, B) -> R + Copy + Send + Sync + 'static,
    ) -> Self::Output {
        (work, Box::new(move |x| vec![f(A::from_bits(x[0]), B::from_bits(x[1])).to_bits()]))
    }

    fn map3<A: Element, B: Element, C: Element, R: Element>(
        self,
        work: Work,
        f: impl Fn(A, B, C) -> R + Copy + Send + Sync + 'static,
    ) -> Self::Output {
        (
            work,
            Box::new(move |x| vec![f(A::from_bits(x[0]), B::from_bits(x[1]), C::from_bits(x[2])).to_bits()]),
        )
    }

    fn map4<A: Element, B: Element, C: Element, E: Element, R: Element>(
        self,
        work: Work,
        f: impl Fn(A, B, C, E) -> R + Copy + Send + Sync + 'static,
    ) -> Self::Output {
        let call = move |x: &[u64]| {
            f(A::from_bits(x[0]), B::from_bits(x[1]), C::from_bits(x[2]), E::from_bits(x[3]))
        };
        (work, Box::new(move |x| vec![call(x).to_bits()]))
    }

    fn compare2<A: Element, B: Element>(
        self,
        work: Work,
        f: impl Fn(A, B) -> (bool, bool) + Copy + Send + Sync + 'static,
    ) -> Self::Output {
        let pair = |(p, q): (bool, bool)| vec![u64::from(p), u64::from(q)];
        (work, Box::new(move |x| pair(f(A::from_bits(x[0]), B::from_bits(x[1])))))
    }

    fn compare3<A: Element, B: Element>(
        self,
        work: Work,
        f: impl Fn(A, B, bool) -> (bool, bool) + Copy + Send + Sync + 'static,
    ) -> Self::Output {
        let pair = |(p, q): (bool, bool)| vec![u64::from(p), u64::from(q)];
        (work, Box::new(move |x| pair(f(A::from_bits(x[0]), B::from_bits(x[1]), x[2] != 0))))
    }
}

/// Parses one instruction: `instruction("add.rz.f32 d, a, b")`.
pub fn instruction(text: &str) -> Instruction {
    let module = format!(".version 8.0\n.target sm_90\n.entry e() {{ {text}; }}");
    let module = crate::ptx::parse(module.as_bytes()).unwrap();
    match module.functions[0].body.as_ref().unwrap().as_slice() {
        [Statement::Instruction(instruction)] => instruction.clone(),
        other => panic!("not one instruction: {other:?}"),
    }
}
