//! Where the machine has the threads run. A virtual one moves them every few seconds: to cores that share a
//! cache, to cores that do not, or all to one core.

use crate::peak::Limits;

/// What all threads together could do at a moment.
#[derive(Clone, Copy)]
pub struct Standing {
    /// FLOP a second of fused multiply-adds alone.
    pub fma: f64,
    /// Nanoseconds until one sees what another has written.
    pub hop: f64,
}

impl Standing {
    /// The longer of two hops, one before the multiply-adds and one after: on a shared core they are short.
    pub fn measure(limits: &Limits) -> Self {
        let (before, fma, after) = (limits.hop(), limits.usual_fma(), limits.hop());
        Self { fma, hop: before.max(after) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// On cores of their own, near each other.
    Near,
    /// On cores of their own, where it takes long until one sees what another has written.
    Far,
    /// On fewer cores than threads.
    Shared,
}

impl Placement {
    pub const ALL: [Self; 3] = [Self::Near, Self::Far, Self::Shared];

    pub fn name(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
            Self::Shared => "shared",
        }
    }
}

/// All that were measured.
#[derive(Default)]
pub struct Standings(Vec<Standing>);

/// Threads that do less than such a part of the most that was seen share cores; a core's neighbour takes less
/// from it.
const WHOLE: f64 = 0.75;
/// So many times the least hop is far.
const FAR: f64 = 2.0;

impl Standings {
    pub fn extend(&mut self, standings: impl IntoIterator<Item = Standing>) {
        self.0.extend(standings);
    }

    /// What each is judged by.
    pub fn bounds(&self) -> Bounds {
        let most = self.0.iter().map(|standing| standing.fma).fold(0.0, f64::max);
        let whole = self.0.iter().filter(|standing| standing.fma >= WHOLE * most);
        let least = whole.map(|standing| standing.hop).fold(f64::INFINITY, f64::min);
        Bounds { fma: WHOLE * most, hop: FAR * least }
    }
}

/// Least multiply-adds of threads on cores of their own, and the longest hop of near ones.
#[derive(Clone, Copy)]
pub struct Bounds {
    fma: f64,
    hop: f64,
}

impl Bounds {
    fn placement(self, standing: &Standing) -> Placement {
        match standing.fma >= self.fma {
            false => Placement::Shared,
            true if standing.hop > self.hop => Placement::Far,
            true => Placement::Near,
        }
    }

    /// Where threads were before and after a turn, if that is the same.
    pub fn of_turn(self, [before, after]: &[Standing; 2]) -> Option<Placement> {
        let placement = self.placement(before);
        (placement == self.placement(after)).then_some(placement)
    }
}
