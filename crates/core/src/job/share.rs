// SPDX-License-Identifier: Apache-2.0
//! Fair shares: who gets a worker's free places where more waits than it has room for.

/// A lane in which jobs are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The project's weight, at least 1.
    pub weight: u32,
    /// Places of this worker that the lane's jobs have already.
    pub held: usize,
    /// Jobs that could be claimed.
    pub due: usize,
    /// Whether it shares what all side lanes together may have.
    pub is_side: bool,
}

/// Free places of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In all.
    pub all: usize,
    /// Of them, those that jobs of side lanes may take.
    pub side: usize,
}

/// Deals free places out: each goes to the lane that has the fewest for its weight, so that a lane with ten thousand
/// jobs gets no more than one with ten. Of equals, the first. Answers how many each lane gets.
#[must_use]
pub fn deal(lanes: &[Waiting], room: Room) -> Vec<usize> {
    let mut dealt = vec![0_usize; lanes.len()];
    let mut side = room.side;
    for _ in 0..room.all {
        let open = lanes.iter().enumerate();
        let open = open.filter(|(n, lane)| dealt[*n] < lane.due && (!lane.is_side || side > 0));
        // Shares compare as fractions do, held / weight, without dividing.
        let poorest = open.min_by(|(a, x), (b, y)| {
            let share = |held: usize, other: u32| held.saturating_mul(other.max(1) as usize);
            share(x.held + dealt[*a], y.weight).cmp(&share(y.held + dealt[*b], x.weight))
        });
        let Some((n, lane)) = poorest else { break };
        dealt[n] += 1;
        side -= usize::from(lane.is_side);
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lane(weight: u32, held: usize, due: usize) -> Waiting {
        Waiting { weight, held, due, is_side: false }
    }

    fn all(all: usize) -> Room {
        Room { all, side: all }
    }

    #[test]
    fn ten_thousand_jobs_get_no_more_than_ten() {
        assert_eq!(deal(&[lane(1, 0, 10_000), lane(1, 0, 10)], all(20)), [10, 10]);
        assert_eq!(deal(&[lane(1, 0, 10_000), lane(1, 0, 3)], all(20)), [17, 3], "and nothing is wasted");
    }

    #[test]
    fn who_holds_much_already_waits() {
        assert_eq!(deal(&[lane(1, 31, 10_000), lane(1, 0, 1)], all(1)), [0, 1]);
        assert_eq!(deal(&[lane(1, 6, 9), lane(1, 0, 9)], all(8)), [1, 7]);
    }

    #[test]
    fn shares_follow_the_weights() {
        assert_eq!(deal(&[lane(3, 0, 99), lane(1, 0, 99)], all(8)), [6, 2]);
        assert_eq!(deal(&[lane(0, 0, 99), lane(1, 0, 99)], all(8)), [4, 4], "no weight is none less than 1");
    }

    #[test]
    fn side_lanes_together_stay_within_their_part() {
        let side = |due| Waiting { is_side: true, ..lane(1, 0, due) };
        let room = Room { all: 8, side: 2 };
        assert_eq!(deal(&[side(99), side(99), lane(1, 0, 3)], room), [1, 1, 3]);
        assert_eq!(deal(&[side(99)], Room { all: 8, side: 0 }), [0]);
    }

    proptest! {
        #[test]
        fn places_are_neither_made_up_nor_left_empty(
            lanes in prop::collection::vec((0_u32..5, 0_usize..40, 0_usize..60, any::<bool>()), 0..20),
            all in 0_usize..60,
            side in 0_usize..60,
        ) {
            let lanes: Vec<Waiting> = lanes
                .into_iter()
                .map(|(weight, held, due, is_side)| Waiting { weight, held, due, is_side })
                .collect();
            let dealt = deal(&lanes, Room { all, side });
            let of = |is_side: bool| {
                let both = lanes.iter().zip(&dealt).filter(move |(lane, _)| lane.is_side == is_side);
                both.fold((0, 0), |(due, got), (lane, n)| (due + lane.due, got + n))
            };
            let ((main_due, main), (side_due, sides)) = (of(false), of(true));
            prop_assert!(lanes.iter().zip(&dealt).all(|(lane, n)| *n <= lane.due));
            prop_assert!(sides <= side);
            prop_assert_eq!(main + sides, all.min(main_due + side_due.min(side)));
        }
    }
}
