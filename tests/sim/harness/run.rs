//! One run, from its seed to its verdict.

use tokio::runtime::Builder;
use tokio::time::sleep;

use super::plan::Mutation;
use super::site::Site;
use super::world::World;
use super::{Dice, Plan, clock, storm, verdict};

/// What came of a run.
pub struct Run {
    /// What went wrong first, if anything did.
    pub fault: Option<String>,
    /// Sums up what was done when. The same seed makes the same print.
    pub print: u64,
    pub polls: u64,
    /// Sessions that were opened, and logins refused.
    pub opened: u64,
    pub refused: u64,
    /// Moves that somebody looked after to their end.
    pub moved: u64,
    /// Virtual time, in milliseconds.
    pub lasted: u64,
    /// All that happened, if that was asked for.
    pub story: Vec<String>,
}

/// Plays the run of that seed. `told`: with its story.
pub fn simulate(seed: u64, mutation: Mutation, told: bool) -> Run {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        clock::begin();
        let dice = Dice::new(seed);
        let world = World::new(Plan::of(&dice, mutation), dice, told);
        world.tell(|| format!("seed {seed}: {:?}", world.plan));
        let site = Site::new(world.clone());
        let outcome = world.executor.run(play(site.clone())).await;
        if let Err(why) = outcome {
            world.fail(why);
        }
        let (polls, print) = world.executor.print();
        let facts = world.facts();
        Run {
            fault: world.fault(),
            print,
            polls,
            opened: facts.opened,
            refused: facts.refused,
            moved: facts.moved,
            lasted: clock::now() - clock::DAWN,
            story: world.story(),
        }
    })
}

async fn play(site: Site) {
    for number in 1..=site.world.plan.proxies {
        site.start(&format!("q{number}"));
        sleep(site.world.dice.span(0, 100)).await;
    }
    site.invite();
    storm::rage(&site).await;
    if site.world.fault().is_some() {
        return;
    }
    site.make_peace();
    sleep(std::time::Duration::from_millis(1)).await;
    verdict::heal(&site);
    verdict::judge(&site).await;
}
