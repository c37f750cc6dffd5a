//! Groups of this machine, from wherever it takes them (NSS): `/etc/group`, LDAP, SSSD.

use nix::unistd::{Gid, Group};

/// The number of a group that is given by its name, or by that number.
pub fn gid_of(group: &str) -> Option<u32> {
    if let Ok(gid) = group.parse() {
        return Some(gid);
    }
    let found = Group::from_name(group).ok().flatten()?;
    Some(found.gid.as_raw())
}

/// The name of a group, for hints.
pub fn name_of(gid: u32) -> Option<String> {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_known_by_name_and_by_number() {
        let name = name_of(0).expect("every system has a group 0");
        assert_eq!(gid_of(&name), Some(0));
        assert_eq!(gid_of("4711"), Some(4711));
        assert_eq!(gid_of("no-such-group-here"), None);
        assert_eq!(name_of(4_000_000), None);
    }
}
