//! The interpreter's [`Maps`]: what one lane does becomes a loop over 32.

use super::{Lowered, Lowerer};
use crate::isa::{Element, Maps, Work};
use crate::machine::context::{Context, Flow};
use crate::machine::registers::{File, Source};
use crate::machine::simd::vectorised;
use crate::program::Gather;
use crate::ptx::ast::{Instruction, Operand, Type};

/// An instruction about to become a step.
pub struct Emit<'l, 'a> {
    /// Where it goes.
    pub lowerer: &'l mut Lowerer<'a>,
    /// The instruction.
    pub instruction: &'l Instruction,
}

impl Emit<'_, '_> {
    fn source<A: Element>(&mut self, index: usize) -> Result<Source, String> {
        let operand =
            self.instruction.operands.get(index).ok_or_else(|| "an operand is missing".to_string())?;
        // Constants are read as the type that the instruction names last.
        let ty = self.instruction.types().last().copied();
        // The addend of a widening multiplication is as wide as its result.
        let ty = ty.filter(|_| index < 3 || !self.instruction.has("wide"));
        self.lowerer.source::<A>(operand, ty)
    }

    fn finish<R: Element>(
        self,
        work: Work,
        make: impl FnOnce(u32) -> Box<dyn Fn(&mut Context<'_>) -> Flow + Send + Sync>,
    ) -> Lowered {
        let name = self.instruction.full_name();
        let destination =
            self.instruction.operands.first().ok_or_else(|| "an operand is missing".to_string())?;
        let signed = matches!(self.instruction.types().first(), Some(Type::Signed(_)));
        self.lowerer.into::<R>(destination, signed, |lowerer, slot| {
            lowerer.emit(name, work, Gather::None, make(slot));
            Ok(())
        })
    }

    /// The slots of `p|q`, or of `p` and one that nobody reads.
    fn pair(&mut self) -> Result<(u32, u32), String> {
        let mut slot = |operand: &Operand| match operand {
            Operand::Sink => Ok(self.lowerer.fresh(File::Predicate)),
            Operand::Name(name) => match self.lowerer.register(name)? {
                (File::Predicate, slot) => Ok(slot),
                _ => Err(format!("`{name}` is no predicate")),
            },
            _ => Err("a destination of this form is not supported".to_string()),
        };
        match self.instruction.operands.first() {
            Some(Operand::Pair(p, q)) => Ok((slot(p)?, slot(q)?)),
            Some(single) => Ok((slot(single)?, slot(&Operand::Sink)?)),
            None => Err("an operand is missing".to_string()),
        }
    }

    fn finish_pair(
        mut self,
        work: Work,
        lanes: impl Fn(&Context<'_>) -> (u32, u32) + Send + Sync + 'static,
    ) -> Lowered {
        let (p, q) = self.pair()?;
        let name = self.instruction.full_name();
        let action = Box::new(move |context: &mut Context<'_>| {
            let (first, second) = lanes(context);
            let mask = context.mask;
            let predicates = &mut context.registers.predicates;
            predicates[q as usize] = predicates[q as usize] & !mask | second & mask;
            predicates[p as usize] = predicates[p as usize] & !mask | first & mask;
            Flow::Next
        });
        self.lowerer.emit(name, work, Gather::None, action);
        Ok(())
    }
}

/// The step of a map: loads what the closure takes, calls it on each lane, stores what it gives.
macro_rules! map {
    ($self:ident, $work:ident, $f:ident, $result:ty, $($name:ident: $element:ty, $index:expr);+) => {{
        $(let $name = $self.source::<$element>($index)?;)+
        $self.finish::<$result>($work, move |slot| {
            Box::new(move |context| {
                vectorised(#[inline(always)] || {
                    $(let $name = <$element>::load(context.registers, $name);)+
                    let mut results = [<$result>::default(); 32];
                    for lane in 0..32 {
                        results[lane] = $f($($name[lane]),+);
                    }
                    <$result>::store(context.registers, slot, &results, context.mask);
                });
                Flow::Next
            })
        })
    }};
}

impl Maps for Emit<'_, '_> {
    type Output = Lowered;

    fn map1<A: Element, R: Element>(
        mut self,
        work: Work,
        f: impl Fn(A) -> R + Copy + Send + Sync + 'static,
    ) -> Lowered {
        map!(self, work, f, R, a: A, 1)
    }

    fn map2<A: Element, B: Element, R: Element>(
        mut self,
        work: Work,
        f: impl Fn(A, B) -> R + Copy + Send + Sync + 'static,
    ) -> Lowered {
        map!(self, work, f, R, a: A, 1; b: B, 2)
    }

    fn map3<A: Element, B: Element, C: Element, R: Element>(
        mut self,
        work: Work,
        f: impl Fn(A, B, C) -> R + Copy + Send + Sync + 'static,
    ) -> Lowered {
        map!(self, work, f, R, a: A, 1; b: B, 2; c: C, 3)
    }

    fn map4<A: Element, B: Element, C: Element, E: Element, R: Element>(
        mut self,
        work: Work,
        f: impl Fn(A, B, C, E) -> R + Copy + Send + Sync + 'static,
    ) -> Lowered {
        map!(self, work, f, R, a: A, 1; b: B, 2; c: C, 3; e: E, 4)
    }

    fn compare2<A: Element, B: Element>(
        mut self,
        work: Work,
        f: impl Fn(A, B) -> (bool, bool) + Copy + Send + Sync + 'static,
    ) -> Lowered {
        let (a, b) = (self.source::<A>(1)?, self.source::<B>(2)?);
        self.finish_pair(work, move |context| {
            vectorised(
                #[inline(always)]
                || {
                    let (a, b) = (A::load(context.registers, a), B::load(context.registers, b));
                    let (mut first, mut second) = (0, 0);
                    for lane in 0..32 {
                        let (p, q) = f(a[lane], b[lane]);
                        first |= u32::from(p) << lane;
                        second |= u32::from(q) << lane;
                    }
                    (first, second)
                },
            )
        })
    }

    fn compare3<A: Element, B: Element>(
        mut self,
        work: Work,
        f: impl Fn(A, B, bool) -> (bool, bool) + Copy + Send + Sync + 'static,
    ) -> Lowered {
        let (a, b, c) = (self.source::<A>(1)?, self.source::<B>(2)?, self.source::<bool>(3)?);
        self.finish_pair(work, move |context| {
            vectorised(
                #[inline(always)]
                || {
                    let (a, b) = (A::load(context.registers, a), B::load(context.registers, b));
                    let c = context.registers.mask(c);
                    let (mut first, mut second) = (0, 0);
                    for lane in 0..32 {
                        let (p, q) = f(a[lane], b[lane], c >> lane & 1 != 0);
                        first |= u32::from(p) << lane;
                        second |= u32::from(q) << lane;
                    }
                    (first, second)
                },
            )
        })
    }
}
