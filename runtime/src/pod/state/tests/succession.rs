//! Images that change under servers.

use super::*;

/// A server that runs, whose image is changed at 2 s.
fn changing() -> Life {
    let mut life = Life::running(one("Always"));
    life.then(1.5, Event::Serves { container: "c".to_owned(), attempt: 0 });
    let mut changed = one("Always");
    changed.containers[0].image = "j".to_owned();
    life.then(2.0, Event::Plan(changed));
    life.story.clear();
    life
}

fn beside() -> Event {
    Event::Started { container: "c".to_owned(), attempt: 1 }
}

fn retired(exit_code: i32) -> Event {
    let (container, reason) = ("c".to_owned(), "Completed".to_owned());
    Event::Exited { container, attempt: 0, exit_code, reason, message: String::new() }
}

#[test]
fn a_server_is_replaced_without_a_pause() {
    let mut life = changing();
    life.then(2.5, Event::Imaged { container: "c".to_owned(), attempt: 1, image_id: "new".to_owned() });
    assert_eq!(life.state.container("c").unwrap().component.image_id, "", "the old one runs still");
    life.then(3.0, beside()).then(4.0, retired(0));
    life.check(expect![[r#"
        2.5s Imaged { container: "c", attempt: 1, image_id: "new" }
          => Running c/0=ready
        3s c/1 started
          event Killing: Container c definition changed, will be restarted
          stop c/0 within 30s
          event Created: Container created
          event Started: Container started
          => Running c/1=ready
        4s c/0 exited 0
          => Running c/1=ready
    "#]]);
    let container = life.state.container("c").unwrap();
    assert_eq!(container.component.image_id, "new");
    assert_eq!(container.last.as_ref().map(|last| (last.attempt, last.exit_code)), Some((0, 0)));
}

#[test]
fn an_image_that_changes_again_is_replaced_again_after_the_first_is_over() {
    let mut life = changing();
    let mut again = one("Always");
    again.containers[0].image = "k".to_owned();
    life.then(2.5, Event::Plan(again)).then(2.6, Event::Serves { container: "c".to_owned(), attempt: 1 });
    life.then(3.0, beside()).then(4.0, retired(0));
    life.check(expect![[r#"
        2.5s plan (deletion grace None)
          => Running c/0=ready
        2.6s Serves { container: "c", attempt: 1 }
          => Running c/0=ready
        3s c/1 started
          event Killing: Container c definition changed, will be restarted
          stop c/0 within 30s
          event Created: Container created
          event Started: Container started
          => Running c/1=ready
        4s c/0 exited 0
          launch c/2 beside
          => Running c/1=ready
    "#]]);
}

#[test]
fn what_cannot_be_started_beside_starts_after_the_old_one() {
    let mut life = changing();
    let refusal = Refusal::new(RefusalReason::ErrImagePull, "why");
    life.then(3.0, Event::Refused { container: "c".to_owned(), attempt: 1, refusal });
    life.exited(4.0, "c", 0).refused(5.0, "c", RefusalReason::ErrImagePull);
    life.check(expect![[r#"
        3s c refused: ErrImagePull
          event Killing: Container c definition changed, will be restarted
          stop c/0 within 30s
          => Running c/0=stopping
        4s c/0 exited 0
          launch c/1
          => Running c/1=launching
        5s c refused: ErrImagePull
          event Failed: Failed to pull image "j": why
          event Failed: Error: ErrImagePull
          => Running c/1=ErrImagePull
    "#]]);
}

#[test]
fn one_that_ends_by_itself_is_followed_by_what_was_launched_beside_it() {
    let mut life = changing();
    life.exited(3.0, "c", 1).started(4.0, "c");
    life.check(expect![[r#"
        3s c/0 exited 1
          => Running c/1=launching
        4s c/1 started
          event Created: Container created
          event Started: Container started
          => Running c/1=ready
    "#]]);
}

#[test]
fn a_pod_that_ends_waits_for_all_of_its_attempts() {
    let mut life = changing();
    life.deleted(3.0, 10).then(4.0, beside()).exited(5.0, "c", 0).then(6.0, retired(0));
    life.check(expect![[r#"
        3s plan (deletion grace Some(10s))
          event Killing: Stopping container c
          stop c/0 within 10s
          cancel c/1
          => Running c/0=stopping
        4s c/1 started
          event Created: Container created
          event Started: Container started
          event Killing: Stopping container c
          stop c/1 within 9s
          => Running c/1=stopping
        5s c/1 exited 0
          => Running c/1=exited(0)
        6s c/0 exited 0
          close
          delete
          => Succeeded c/1=exited(0)
    "#]]);
}
