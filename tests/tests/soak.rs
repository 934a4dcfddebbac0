//! The short form of `cargo xtask strength soak`: what does not depend on time.
#![allow(clippy::unwrap_used, missing_docs)]

use counterfoil_tests::soak::{self, Plan};

#[test]
fn nothing_is_lost_or_left_over_from_one_life_to_the_next() {
    let plan = Plan {
        seconds: 6,
        lives: 2,
        webhooks: None,
    };
    let soak = soak::run(&plan, |_| {}).unwrap();
    assert_eq!(soak.broken, Vec::<String>::new());
    assert!(soak.lives.iter().all(|life| life.added > 0));
}
