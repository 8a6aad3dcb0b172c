//! `membership`: supplementary groups of a user that something else makes.

use toril_document::Table;

use super::user::{self, UserState};
use super::{Change, Context, Judged, Kind, Resource, ResourceError, Wanted, names, read_name};

#[derive(Debug)]
struct Membership {
    user: String,
    groups: Vec<String>,
}

pub(super) fn read(table: &mut Table<'_>) -> Option<Box<dyn Resource>> {
    let user = read_name(table, "user");
    let groups = table.required_strings("groups").map(|groups| names(table, groups, "a group"));
    Some(Box::new(Membership { user: user?, groups: groups? }))
}

impl Kind for Membership {
    type State = Option<UserState>;

    fn observe(&self, context: Context<'_>) -> Result<Option<UserState>, ResourceError> {
        user::observe(context, &self.user, &self.groups)
    }

    fn compare(&self, _: Context<'_>, state: &Option<UserState>) -> Judged {
        let Some(UserState { groups, .. }) = state else {
            let after = format!("there, and a member of {}", self.groups.join(", "));
            return vec![Change::new(format!("user {}", self.user), "not there", after)].into();
        };
        let missing = self.groups.iter().filter(|group| !groups.contains(group));
        missing.map(|group| user::membership(group)).collect::<Vec<_>>().into()
    }

    fn apply(
        &self,
        context: Context<'_>,
        changes: &[Change],
        _: &mut dyn FnMut(&str),
    ) -> Result<(), ResourceError> {
        if self.observe(context)?.is_none() {
            let text = format!("there is no user `{}`: a resource of kind `user` makes one", self.user);
            return Err(ResourceError(text));
        }
        user::join_groups(&self.user, changes)
    }

    fn follows(&self) -> Vec<Wanted> {
        let groups = self.groups.iter().map(|group| Wanted::Group(group.clone()));
        // Packages make users and groups too.
        groups.chain([Wanted::User(self.user.clone()), Wanted::Packages]).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::resource::testing::{self, Fake};

    #[test]
    fn what_is_missing_is_named() {
        let fake = Fake::new();
        let changes = |user: &str| {
            let text = format!("membership = {{ user = \"{user}\", groups = [\"kvm\", \"games\"] }}");
            fake.changes(&*testing::read(&text).unwrap())
        };
        assert_eq!(changes("toril"), ["member of games: no → yes"]);
        assert_eq!(changes("ghost"), ["user ghost: not there → there, and a member of kvm, games"]);
        std::fs::write(fake.path("etc/group"), "kvm:x:105:a,toril\ngames:x:900:\n").unwrap();
        assert_eq!(changes("toril"), [""; 0], "the primary group counts");
    }

    #[test]
    fn a_user_that_is_not_there_is_not_made() {
        let fake = Fake::new();
        let resource = testing::read("membership = { user = \"ghost\", groups = [\"kvm\"] }").unwrap();
        let judged = resource.judge(fake.context()).unwrap();
        let error = resource.apply(fake.context(), &judged.changes, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("there is no user `ghost`"), "{error}");
    }

    #[test]
    fn wrong_words_are_refused() {
        testing::refuses(&[
            ("membership = { user = \"u\", groups = [] }", "must not be empty"),
            ("membership = { user = \"u\", groups = [\"a b\"] }", "`a b` is no name of a group"),
            ("membership = { user = \"u\", group = [\"a\"] }", "did you mean `groups`?"),
        ]);
    }
}
