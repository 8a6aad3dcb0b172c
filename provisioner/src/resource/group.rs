//! `group`: a group of this name.

use toril_document::Table;
use toril_machine::{Command, Group};

use super::{Change, Context, Judged, Kind, Resource, ResourceError, Thing, read_name};

#[derive(Debug)]
struct GroupResource {
    name: String,
    system: bool,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let name = read_name(table, "name");
    let system = table.boolean("system").unwrap_or(true);
    Some(Box::new(GroupResource { name: name?, system }))
}

impl Kind for GroupResource {
    type State = Option<Group>;

    fn observe(&self, context: Context<'_>) -> Result<Option<Group>, ResourceError> {
        context.machine.group(&self.name).known().map_err(ResourceError)
    }

    fn compare(&self, _: Context<'_>, state: &Option<Group>) -> Judged {
        let changes = match state {
            Some(_) => Vec::new(),
            None => vec![Change::new("group", "not there", &self.name)],
        };
        changes.into()
    }

    fn apply(&self, _: Context<'_>, _: &[Change], _: &mut dyn FnMut(&str)) -> Result<(), ResourceError> {
        let system = self.system.then_some("--system");
        let args = system.into_iter().chain(["--", self.name.as_str()]);
        Command::new("groupadd", args).output().map(drop).map_err(ResourceError::new)
    }

    fn provides(&self) -> Vec<Thing> {
        vec![Thing::Group(self.name.clone())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::testing::Fake;

    #[test]
    fn is_looked_for_in_the_database() {
        let fake = Fake::new();
        let resource = |name: &str| GroupResource { name: name.into(), system: true };
        assert_eq!(fake.changes(&resource("kvm")), [""; 0]);
        assert_eq!(fake.changes(&resource("other")), ["group: not there → other"]);
    }
}
