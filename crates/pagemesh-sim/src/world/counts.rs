//! What happened, in numbers.

/// What happened in a run, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Steps: one thread's step, one delivery, one expiry.
    pub steps: u64,
    /// Messages sent from node to node.
    pub messages: u64,
    /// Of these, messages with a page's bytes.
    pub payloads: u64,
    /// Accesses that the rights allowed.
    pub hits: u64,
    /// Accesses that faulted.
    pub faults: u64,
    /// Most faults that one access needed.
    pub retries_max: u64,
    /// Most nodes that were served while another waited for the same page; not counted where threads give up.
    pub passed_max: u64,
    /// Calls that ended well.
    pub completed: u64,
    /// Calls that failed, with a reason.
    pub failed: u64,
    /// Calls that were given up.
    pub cancelled: u64,
    /// Calls that were given up after they had ended.
    pub cancelled_late: u64,
    /// Pages asked for without waiting.
    pub prefetched: u64,
    /// Nodes that went before the end.
    pub lost: u64,
    /// Connections that broke between living nodes.
    pub severed: u64,
    /// Nodes that stood still for a while.
    pub paused: u64,
    /// Runs whose faults ended before the programs did.
    pub calmed: u64,
    /// Accesses, lock and barrier deeds in the histories that were judged.
    pub deeds: u64,
    /// Nodes that left at the end.
    pub left: u64,
    /// Messages of barriers that were gathered in trees.
    pub gathered: u64,
    /// Times that a node was told that a barrier is not gathered any more.
    pub dissolved: u64,
    /// Reads that an owner served in its home's place.
    pub hinted: u64,
    /// Reads that were turned away by who was taken for an owner.
    pub hinted_wrongly: u64,
    /// Reports that were put off.
    pub put_off: u64,
    /// Times that a node was told that its reports are waited for.
    pub hurried: u64,
    /// Faults that were planted.
    pub planted: u64,
}

impl Counts {
    /// Adds what happened in another run.
    pub fn add(&mut self, other: &Counts) {
        self.steps += other.steps;
        self.messages += other.messages;
        self.payloads += other.payloads;
        self.hits += other.hits;
        self.faults += other.faults;
        self.retries_max = self.retries_max.max(other.retries_max);
        self.passed_max = self.passed_max.max(other.passed_max);
        self.completed += other.completed;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.cancelled_late += other.cancelled_late;
        self.prefetched += other.prefetched;
        self.lost += other.lost;
        self.severed += other.severed;
        self.paused += other.paused;
        self.calmed += other.calmed;
        self.deeds += other.deeds;
        self.left += other.left;
        self.gathered += other.gathered;
        self.hinted += other.hinted;
        self.hinted_wrongly += other.hinted_wrongly;
        self.put_off += other.put_off;
        self.hurried += other.hurried;
        self.dissolved += other.dissolved;
        self.planted += other.planted;
    }
}
