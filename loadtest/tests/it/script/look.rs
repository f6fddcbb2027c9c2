//! Looking at many tasks at once tells of each what looking at it alone does.
//!
//! Responsible for tasks in every state in one call, and for the bounds of what comes back. Must never write.

use bytes::Bytes;
use portcullis_lua::{
    CompiledPolicy, Lease, Outcome, Output, OutputId, PolicyStamp, Progress, Settlement, TaskId, TaskResult,
};

use super::stage::{Act, START_MS, Stage, request, roomy};

/// More than one task's share of a call.
const LARGE_PIECE: usize = 100_000;

fn policy() -> CompiledPolicy {
    CompiledPolicy::new(&roomy(), PolicyStamp::NONE)
}

/// Admits this many tasks; their ids, in the order in which they are leased.
async fn admitted(act: &Act, policy: &CompiledPolicy, number: usize) -> Vec<TaskId> {
    let mut ids = Vec::new();
    for _ in 0..number {
        let one = request("paid", "s");
        act.store.at(START_MS).admit(policy, std::slice::from_ref(&one)).await.expect("a decision");
        ids.push(one.task_id);
    }
    ids
}

async fn leased(act: &Act, policy: &CompiledPolicy, number: u32) -> Vec<Lease> {
    act.store.at(START_MS).claim(policy, number).await.expect("leases").leases
}

async fn write(act: &Act, policy: &CompiledPolicy, lease: &Lease, pieces: Vec<Bytes>) {
    assert!(act.store.append_output(policy, lease, 0, pieces).await.expect("an answer"));
}

#[tokio::test]
async fn each_of_many_tasks_is_told_of_as_if_it_was_the_only_one() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), policy());
    act.beat(&policy, START_MS, 1_000).await;
    let mut ids = admitted(&act, &policy, 3).await;
    let leases = leased(&act, &policy, 2).await;
    for lease in &leases {
        write(&act, &policy, lease, vec!["a".into(), "b".into(), "c".into()]).await;
    }
    let result = TaskResult { content_type: "text/plain".to_owned(), body: "done".into() };
    let outcome = Outcome::Succeeded { result, usage: Vec::new() };
    let ended = Settlement { lease: leases[0].clone(), outcome };
    act.store.at(START_MS).settle(&policy, &[ended]).await.expect("an answer");
    ids.push(TaskId::generate());

    let before = act.probe.dump(&act.prefix).await.expect("a dump");
    let after = OutputId { attempt: 1, piece: 1 };
    let asked: Vec<_> = ids.iter().map(|id| (id.clone(), after)).collect();
    let looked = act.store.look(&asked).await.expect("an answer");
    assert_eq!(looked.len(), ids.len());
    for (id, looked) in ids.iter().zip(looked) {
        let (looked, record) = (looked.expect("a sound task"), act.store.task(id).await.expect("an answer"));
        assert_eq!(looked.is_some(), record.is_some());
        let (Some(looked), Some(record)) = (looked, record) else { continue };
        assert_eq!(looked.progress, Progress::from(&record));
        assert_eq!(looked.ended.is_some(), record.status.is_terminal());
        assert_eq!(looked.ended.and_then(|ended| ended.result), record.result);
        assert_eq!(looked.output, act.store.output(id, after, 64).await.expect("output"));
        assert!(looked.complete);
    }
    assert_eq!(act.probe.dump(&act.prefix).await.expect("a dump"), before, "a look wrote something");
}

#[tokio::test]
async fn a_look_is_bounded_and_whoever_goes_on_looking_gets_every_piece() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), policy());
    act.beat(&policy, START_MS, 1_000).await;
    let ids = admitted(&act, &policy, 2).await;
    let leases = leased(&act, &policy, 2).await;
    write(&act, &policy, &leases[0], vec![Bytes::from(vec![b'x'; LARGE_PIECE]); 6]).await;
    write(&act, &policy, &leases[1], vec!["y".into(); 64]).await;

    let mut read: Vec<Vec<Output>> = vec![Vec::new(); ids.len()];
    let mut looks = 0;
    loop {
        let position = |output: &Vec<Output>| output.last().map_or_else(OutputId::default, |last| last.id);
        let asked: Vec<_> = ids.iter().cloned().zip(read.iter().map(position)).collect();
        let mut complete = true;
        for (output, looked) in read.iter_mut().zip(act.store.look(&asked).await.expect("an answer")) {
            let looked = looked.expect("a sound task").expect("a task");
            let bytes: usize = looked.output.iter().map(|piece| piece.data.len()).sum();
            assert!(bytes <= 262_144 + LARGE_PIECE, "{bytes} bytes in one look");
            assert!(looked.complete || !looked.output.is_empty(), "no progress");
            complete &= looked.complete;
            output.extend(looked.output);
        }
        looks += 1;
        if complete {
            break;
        }
    }
    assert!(looks > 1, "600 kB came at once");
    for (id, read) in ids.iter().zip(read) {
        assert_eq!(read, act.store.output(id, OutputId::default(), 1000).await.expect("output"));
    }
}
