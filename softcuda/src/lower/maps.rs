//! The interpreter's [`Maps`]: what one lane does becomes a loop over 32.

use super::operands::Destination;
use super::{Lowered, Lowerer};
use crate::isa::convert::sign_extended_from;
use crate::isa::{Element, Maps, Work};
use crate::machine::context::{Context, Flow};
use crate::machine::registers::{File, Source};
use crate::machine::simd::vectorised;
use crate::program::{Action, Gather};
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
        self.source_in(index, A::FILE)
    }

    fn source_in(&mut self, index: usize, file: File) -> Result<Source, String> {
        let operand =
            self.instruction.operands.get(index).ok_or_else(|| "an operand is missing".to_string())?;
        // Constants are read as the type that the instruction names last.
        let ty = self.instruction.types().last().copied();
        // The addend of a widening multiplication is as wide as its result.
        let ty = ty.filter(|_| index < 3 || !self.instruction.has("wide"));
        self.lowerer.source_in(operand, ty, file)
    }

    fn destination(&mut self, file: File) -> Result<Destination, String> {
        let operand = self.instruction.operands.first().ok_or_else(|| "an operand is missing".to_string())?;
        self.lowerer.destination(operand, file)
    }

    fn finish(self, work: Work, destination: Destination, action: Action) -> Lowered {
        let signed = matches!(self.instruction.types().first(), Some(Type::Signed(_)));
        self.lowerer.emit(self.instruction.full_name(), work, Gather::None, action);
        if let (Some(bits), Some(Operand::Name(name))) =
            (sign_extended_from(self.instruction), self.instruction.operands.first())
        {
            self.lowerer.extend_sign(&destination, name, bits);
        }
        self.lowerer.fit(destination, signed);
        Ok(())
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
        let destination = $self.destination(<$result>::FILE)?;
        let slot = destination.slot;
        let action = Box::new(move |context: &mut Context<'_>| {
            vectorised(#[inline(always)] || {
                $(let $name = <$element>::load(context.registers, $name);)+
                let mut results = [<$result>::default(); 32];
                for lane in 0..32 {
                    results[lane] = $f($($name[lane]),+);
                }
                <$result>::store(context.registers, slot, &results, context.mask);
            });
            Flow::Next
        });
        $self.finish($work, destination, action)
    }};
}

impl<'l, 'a> Maps for Emit<'l, 'a> {
    type Output = Lowered;
    type Rare = Rare<'l, 'a>;

    fn rarely(self) -> Rare<'l, 'a> {
        Rare(self)
    }

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

/// An [`Emit`] for closures that are called through a pointer: one loop serves all of them.
pub struct Rare<'l, 'a>(Emit<'l, 'a>);

/// A closure on bits.
type Erased2 = Box<dyn Fn(u64, u64) -> u64 + Send + Sync>;
/// The same of three values.
type Erased3 = Box<dyn Fn(u64, u64, u64) -> u64 + Send + Sync>;

impl Maps for Rare<'_, '_> {
    type Output = Lowered;
    type Rare = Self;

    fn rarely(self) -> Self {
        self
    }

    fn map1<A: Element, R: Element>(
        self,
        work: Work,
        f: impl Fn(A) -> R + Copy + Send + Sync + 'static,
    ) -> Lowered {
        let erased: Box<dyn Fn(u64) -> u64 + Send + Sync> = Box::new(move |a| f(A::from_bits(a)).to_bits());
        let f = move |a: A| R::from_bits(erased(a.to_bits()));
        let mut this = self.0;
        map!(this, work, f, R, a: A, 1)
    }

    fn map2<A: Element, B: Element, R: Element>(
        self,
        work: Work,
        f: impl Fn(A, B) -> R + Copy + Send + Sync + 'static,
    ) -> Lowered {
        let erased: Erased2 = Box::new(move |a, b| f(A::from_bits(a), B::from_bits(b)).to_bits());
        let f = move |a: A, b: B| R::from_bits(erased(a.to_bits(), b.to_bits()));
        let mut this = self.0;
        map!(this, work, f, R, a: A, 1; b: B, 2)
    }

    fn map3<A: Element, B: Element, C: Element, R: Element>(
        self,
        work: Work,
        f: impl Fn(A, B, C) -> R + Copy + Send + Sync + 'static,
    ) -> Lowered {
        let erased: Erased3 =
            Box::new(move |a, b, c| f(A::from_bits(a), B::from_bits(b), C::from_bits(c)).to_bits());
        let f = move |a: A, b: B, c: C| R::from_bits(erased(a.to_bits(), b.to_bits(), c.to_bits()));
        let mut this = self.0;
        map!(this, work, f, R, a: A, 1; b: B, 2; c: C, 3)
    }

    fn map4<A: Element, B: Element, C: Element, E: Element, R: Element>(
        self,
        work: Work,
        f: impl Fn(A, B, C, E) -> R + Copy + Send + Sync + 'static,
    ) -> Lowered {
        // There are few of these.
        self.0.map4(work, f)
    }

    fn compare2<A: Element, B: Element>(
        self,
        work: Work,
        f: impl Fn(A, B) -> (bool, bool) + Copy + Send + Sync + 'static,
    ) -> Lowered {
        let erased: Erased2 = Box::new(move |a, b| {
            let (p, q) = f(A::from_bits(a), B::from_bits(b));
            u64::from(p) | u64::from(q) << 1
        });
        let mut this = self.0;
        let (a, b) = (this.source::<A>(1)?, this.source::<B>(2)?);
        this.finish_pair(work, move |context| {
            let (a, b) = (A::load(context.registers, a), B::load(context.registers, b));
            collect(|lane| erased(a[lane].to_bits(), b[lane].to_bits()))
        })
    }

    fn compare3<A: Element, B: Element>(
        self,
        work: Work,
        f: impl Fn(A, B, bool) -> (bool, bool) + Copy + Send + Sync + 'static,
    ) -> Lowered {
        let erased: Erased3 = Box::new(move |a, b, c| {
            let (p, q) = f(A::from_bits(a), B::from_bits(b), c != 0);
            u64::from(p) | u64::from(q) << 1
        });
        let mut this = self.0;
        let (a, b, c) = (this.source::<A>(1)?, this.source::<B>(2)?, this.source::<bool>(3)?);
        this.finish_pair(work, move |context| {
            let (a, b) = (A::load(context.registers, a), B::load(context.registers, b));
            let c = context.registers.mask(c);
            collect(|lane| erased(a[lane].to_bits(), b[lane].to_bits(), u64::from(c >> lane & 1)))
        })
    }
}

/// The masks of two predicates from bits 0 and 1 of each lane's pair.
fn collect(pair: impl Fn(usize) -> u64) -> (u32, u32) {
    (0..32).fold((0, 0), |(first, second), lane| {
        let pair = pair(lane) as u32;
        (first | (pair & 1) << lane, second | (pair >> 1) << lane)
    })
}
