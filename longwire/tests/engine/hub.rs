//! Topics against a simple model, for random sequences: each connection gets exactly what the model says, in the same
//! order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use longwire::engine::{Conn, Handle, Id, MessageRef};

use crate::host::{Host, House, obey};
use crate::raw::Raw;

const TOPICS: [&str; 4] = ["甲", "乙", "丙", "丁"];
const CONNECTIONS: usize = 6;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[derive(Clone, Debug)]
enum Op {
    Subscribe(&'static str),
    Unsubscribe(&'static str),
    Publish(&'static str, String),
    Send(String),
}

impl Op {
    fn random(random: &mut Random, number: &mut u32) -> Self {
        let topic = TOPICS[random.below(TOPICS.len())];
        *number += 1;
        // Some messages are too long to be copied.
        let text = if random.below(20) == 0 {
            format!("{number}:{}", "长".repeat(20_000))
        } else {
            number.to_string()
        };
        match random.below(8) {
            0 | 1 => Self::Subscribe(topic),
            2 => Self::Unsubscribe(topic),
            3..=5 => Self::Publish(topic, text),
            _ => Self::Send(text),
        }
    }

    /// The command for a connection that does it itself.
    fn command(&self) -> String {
        match self {
            Self::Subscribe(topic) => format!("sub {topic} quietly"),
            Self::Unsubscribe(topic) => format!("unsub {topic} quietly"),
            Self::Publish(topic, text) => format!("pub {topic} {text}"),
            Self::Send(text) => format!("send {text}"),
        }
    }

    /// Does it through a handle.
    fn apply(&self, handle: &Handle, id: Id) {
        let peer = handle.conn(id);
        match self {
            Self::Subscribe(topic) => peer.subscribe(topic),
            Self::Unsubscribe(topic) => peer.unsubscribe(topic),
            Self::Publish(topic, text) => handle.publish(topic, text.as_str()),
            Self::Send(text) => peer.send(text),
        }
        .unwrap();
    }
}

#[derive(Default)]
struct Model {
    subscribers: BTreeMap<&'static str, BTreeSet<usize>>,
    wanted: [Vec<String>; CONNECTIONS],
}

impl Model {
    fn apply(&mut self, who: usize, op: &Op, by_itself: bool) {
        match op {
            Op::Subscribe(topic) => _ = self.subscribers.entry(topic).or_default().insert(who),
            Op::Unsubscribe(topic) => _ = self.subscribers.entry(topic).or_default().remove(&who),
            Op::Publish(topic, text) => {
                for &other in self.subscribers.entry(topic).or_default().iter() {
                    if !by_itself || other != who {
                        self.wanted[other].push(text.clone());
                    }
                }
            }
            Op::Send(text) => self.wanted[who].push(text.clone()),
        }
    }

    fn leave(&mut self, who: usize) -> Vec<String> {
        self.subscribers.values_mut().for_each(|members| _ = members.remove(&who));
        std::mem::take(&mut self.wanted[who])
    }
}

type Script = Box<dyn FnOnce(&Handle) + Send>;

/// Runs the test's script in one callback, so within one turn.
fn scripted() -> (Host, Arc<Mutex<Option<Script>>>) {
    let script: Arc<Mutex<Option<Script>>> = Arc::default();
    let next = Arc::clone(&script);
    let on_message: Box<_> = Box::new(move |conn: &mut Conn<'_>, state: &mut _, message: MessageRef<'_>| {
        if message.as_text() == Some("run") {
            next.lock().unwrap().take().unwrap()(&conn.engine());
            conn.send("ran").unwrap();
        } else {
            obey(conn, state, message);
        }
    });
    (Host { on_message, ..Host::new() }, script)
}

fn check(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let (host, script) = scripted();
    let house = House::new(host);
    let mut controller = Raw::open(house.address(), "/controller");
    let open = |path: &str| (Raw::open(house.address(), path), house.log.opened(path));
    let mut peers: Vec<_> = (0..CONNECTIONS).map(|who| open(&format!("/{who}"))).collect();
    let mut heard: [Vec<String>; CONNECTIONS] = Default::default();
    let (mut model, mut number) = (Model::default(), 0);
    for step in 0..60 {
        let who = random.below(CONNECTIONS);
        match random.below(12) {
            0 => {
                let (mut raw, _) = std::mem::replace(&mut peers[who], open(&format!("/{step}-{who}")));
                raw.text("send left");
                heard[who].extend(raw.texts_until("left"));
                assert_eq!(heard[who], model.leave(who), "seed {seed}, step {step}, {who} left");
                heard[who].clear();
                raw.close();
            }
            1..=6 => {
                let ops: Vec<_> =
                    (0..random.below(12)).map(|_| Op::random(&mut random, &mut number)).collect();
                ops.iter().for_each(|op| model.apply(who, op, true));
                let commands: Vec<_> = ops.iter().map(Op::command).collect();
                let raw = &mut peers[who].0;
                raw.texts(commands.iter().map(String::as_str).chain(["send done"]));
                heard[who].extend(raw.texts_until("done"));
            }
            _ => {
                let ops: Vec<_> = (0..random.below(30))
                    .map(|_| (random.below(CONNECTIONS), Op::random(&mut random, &mut number)))
                    .collect();
                ops.iter().for_each(|(who, op)| model.apply(*who, op, false));
                let ids: Vec<Id> = peers.iter().map(|(_, id)| *id).collect();
                let run: Script =
                    Box::new(move |handle| ops.iter().for_each(|(who, op)| op.apply(handle, ids[*who])));
                *script.lock().unwrap() = Some(run);
                controller.text("run");
                assert_eq!(controller.next_text(), "ran");
            }
        }
    }
    for (who, (raw, _)) in peers.iter_mut().enumerate() {
        raw.text("send end");
        heard[who].extend(raw.texts_until("end"));
        assert!(heard[who] == model.wanted[who], "seed {seed}, {who}");
    }
}

#[test]
fn each_gets_what_the_model_says() {
    (0..60).for_each(check);
}
