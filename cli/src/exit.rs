//! Exit statuses: public API, explained in the book's reference.

use std::process::ExitCode;

/// How a command ended, from what outranks all else to what is outranked by all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// 2: wrong usage, recipe, inventory or suite; no host was touched.
    Usage,
    /// 1: the operation failed: unreachable, apply failed, lost host.
    Operation,
    /// 5: the host or the set-up: nothing ran, all skipped, a test ended in *error*.
    Setup,
    /// 4: the code: a test failed, crashed, timed out, was incomplete.
    Tests,
    /// 3: drift.
    Drift,
    /// 0: all done, nothing wrong, and at least one thing was done or checked.
    Fine,
}

impl Status {
    /// The number.
    pub(crate) fn number(self) -> u8 {
        match self {
            Status::Fine => 0,
            Status::Operation => 1,
            Status::Usage => 2,
            Status::Drift => 3,
            Status::Tests => 4,
            Status::Setup => 5,
        }
    }

    /// The status that has this number; one that no toril exits with is a failure.
    pub(crate) fn of_number(number: u8) -> Status {
        let all = [Status::Fine, Status::Usage, Status::Drift, Status::Tests, Status::Setup];
        all.into_iter().find(|status| status.number() == number).unwrap_or(Status::Operation)
    }

    /// Of several, the one to exit with: the first of 2, 1, 5, 4, 3.
    pub(crate) fn worst(all: impl IntoIterator<Item = Status>) -> Status {
        all.into_iter().min().unwrap_or(Status::Fine)
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_2_1_5_4_3_counts() {
        use Status::*;
        let order = [Usage, Operation, Setup, Tests, Drift, Fine];
        assert_eq!(order.map(Status::number), [2, 1, 5, 4, 3, 0]);
        for (index, status) in order.into_iter().enumerate() {
            assert_eq!(Status::worst(order[index..].iter().copied().rev()), status);
        }
        assert_eq!(Status::worst([]), Fine);
    }
}
