use std::time::Duration;

use super::Transcript;
use crate::verdict::{Cut, STORM};

/// How long a guest that panicked may go on to say more, or to end by itself.
const AFTER_PANIC: Duration = Duration::from_millis(300);

/// How long QEMU may go on to say more.
const AFTER_BREAKAGE: Duration = Duration::from_millis(100);

impl Transcript<'_> {
    /// Why the test is to be ended, and how much longer it may run to say more.
    pub(super) fn why_to_end(&self) -> Option<(Cut, Duration)> {
        if self.is_guest && self.found.broken.is_some() {
            return Some((Cut::Broken, AFTER_BREAKAGE));
        }
        if self.found.panic_line.is_some() || self.monitor.panicked {
            return Some((Cut::Panic, AFTER_PANIC));
        }
        if self.found.exceptions.0 >= STORM {
            return Some((Cut::Storm, Duration::ZERO));
        }
        if let (Some(limit), Some(last)) = (self.test.case_deadline, self.found.last_case)
            && self.start.elapsed().saturating_sub(last) >= limit
        {
            return Some((Cut::CaseDeadline(limit), Duration::ZERO));
        }
        let limit = self.test.output_limit;
        let helpers = self.helpers.iter().map(|helper| helper.capture.total);
        let total =
            helpers.fold(self.printed().saturating_add(self.stderr.capture.total), u64::saturating_add);
        (total > limit).then_some((Cut::Flood(limit), Duration::ZERO))
    }
}
