// SPDX-License-Identifier: Apache-2.0
//! Who may do what: one decision, deny by default.

use crate::actor::{Actor, Role, Scope};
use crate::id::ProjectId;

/// Something that needs permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read the state of a project.
    ReadProject(ProjectId),
    /// Request, renew or download certificates of a project, retry and cancel its jobs.
    OperateProject(ProjectId),
    /// Change a project's settings.
    AdministerProject(ProjectId),
    /// Read the state of the cluster.
    ReadCluster,
    /// Change who leads.
    AdministerCluster,
    /// Create projects, make and revoke tokens.
    AdministerOrganisation,
}

/// The answer to \"may they?\".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They may.
    Granted,
    /// They may know that it exists, but not do this: the role they need.
    Denied(Role),
    /// No token of a project may: the role that it takes in the whole organisation.
    DeniedToProjects(Role),
    /// They may not even know whether it exists.
    Hidden,
}

/// Whether `actor` may do `action`.
#[must_use]
pub fn decide(actor: &Actor, action: Action) -> Verdict {
    let (role, scope) = match actor {
        Actor::Token { role, scope, .. } => (*role, *scope),
        Actor::Service(_) | Actor::Console => return Verdict::Granted,
    };
    let (needed, project) = match action {
        Action::ReadProject(project) => (Role::Viewer, Some(project)),
        Action::OperateProject(project) => (Role::Operator, Some(project)),
        Action::AdministerProject(project) => (Role::Admin, Some(project)),
        Action::ReadCluster => (Role::Viewer, None),
        Action::AdministerCluster => (Role::Admin, None),
        Action::AdministerOrganisation => (Role::Owner, None),
    };
    match (scope, project) {
        (Scope::Project(own), Some(project)) if own != project => Verdict::Hidden,
        // No role in a project is enough.
        (Scope::Project(_), None) if action != Action::ReadCluster => Verdict::DeniedToProjects(needed),
        _ if role >= needed => Verdict::Granted,
        _ => Verdict::Denied(needed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(last: char) -> ProjectId {
        format!("prj_{}{last}", "0".repeat(31)).parse().unwrap()
    }

    fn bearer(role: Role, scope: Scope) -> Actor {
        let id = format!("tok_{}", "0".repeat(32)).parse().unwrap();
        Actor::Token { id, name: "t".into(), role, scope }
    }

    #[test]
    fn a_project_token_never_sees_another_project() {
        for role in [Role::Viewer, Role::Operator, Role::Admin, Role::Owner] {
            let actor = bearer(role, Scope::Project(project('1')));
            for action in [Action::ReadProject, Action::OperateProject, Action::AdministerProject] {
                assert_eq!(decide(&actor, action(project('2'))), Verdict::Hidden);
            }
            assert_eq!(
                decide(&actor, Action::AdministerOrganisation),
                Verdict::DeniedToProjects(Role::Owner)
            );
        }
    }

    #[test]
    fn a_role_includes_the_ones_below_and_none_above() {
        let own = project('1');
        let operator = bearer(Role::Operator, Scope::Project(own));
        assert_eq!(decide(&operator, Action::ReadProject(own)), Verdict::Granted);
        assert_eq!(decide(&operator, Action::OperateProject(own)), Verdict::Granted);
        assert_eq!(decide(&operator, Action::AdministerProject(own)), Verdict::Denied(Role::Admin));
        let viewer = bearer(Role::Viewer, Scope::Organisation);
        assert_eq!(decide(&viewer, Action::OperateProject(own)), Verdict::Denied(Role::Operator));
        assert_eq!(decide(&viewer, Action::ReadCluster), Verdict::Granted);
    }

    #[test]
    fn who_leads_is_changed_by_administrators_of_the_whole_alone() {
        let asked = |role, scope| decide(&bearer(role, scope), Action::AdministerCluster);
        for role in [Role::Admin, Role::Owner] {
            assert_eq!(asked(role, Scope::Organisation), Verdict::Granted);
            let own = Scope::Project(project('1'));
            assert_eq!(asked(role, own), Verdict::DeniedToProjects(Role::Admin));
        }
        for role in [Role::Viewer, Role::Operator] {
            assert_eq!(asked(role, Scope::Organisation), Verdict::Denied(Role::Admin));
        }
    }
}
