//! Graphs: commands and their order, to be launched as a whole, again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::clock::{Ticket, Tickets};
use super::work::Work;
use super::{Handle, State, Status};

/// A node.
#[derive(Clone)]
pub struct Node {
    /// What it does.
    pub work: Work,
    /// The nodes before it.
    pub after: Vec<Handle>,
    /// For a child graph: its nodes.
    pub child: Option<Box<Graph>>,
}

/// A graph. Its nodes are in the order of their handles, which is that of their creation.
#[derive(Clone, Default)]
pub struct Graph {
    /// The nodes.
    pub nodes: BTreeMap<Handle, Node>,
    /// The node that each was cloned from.
    pub originals: BTreeMap<Handle, Handle>,
    /// Memory that its allocation nodes own: base and whether a node frees it.
    pub memory: BTreeMap<u64, bool>,
}

impl Graph {
    /// The nodes and all that come before them.
    pub fn ancestors(&self, nodes: &[Handle]) -> BTreeSet<Handle> {
        let mut found = BTreeSet::new();
        let mut open = nodes.to_vec();
        while let Some(node) = open.pop() {
            if found.insert(node)
                && let Some(node) = self.nodes.get(&node)
            {
                open.extend(&node.after);
            }
        }
        found
    }

    /// The nodes, each behind those before it; `None` if they form a circle.
    fn sorted(&self) -> Option<Vec<Handle>> {
        let mut missing: BTreeMap<Handle, usize> =
            self.nodes.iter().map(|(handle, node)| (*handle, node.after.len())).collect();
        let mut followers: BTreeMap<Handle, Vec<Handle>> = BTreeMap::new();
        for (handle, node) in &self.nodes {
            node.after.iter().for_each(|before| followers.entry(*before).or_default().push(*handle));
        }
        let mut ready: BTreeSet<Handle> =
            missing.iter().filter(|(_, missing)| **missing == 0).map(|(handle, _)| *handle).collect();
        let mut order = Vec::new();
        while let Some(node) = ready.pop_first() {
            order.push(node);
            for follower in followers.get(&node).into_iter().flatten() {
                let missing = missing.entry(*follower).or_default();
                *missing -= 1;
                if *missing == 0 {
                    ready.insert(*follower);
                }
            }
        }
        (order.len() == self.nodes.len()).then_some(order)
    }
}

/// A node of an executable graph.
#[derive(Clone)]
struct Step {
    source: Handle,
    work: Work,
    /// Indices of the steps before it, all of them smaller.
    after: Vec<usize>,
    chain: usize,
    enabled: bool,
}

/// A graph that can be launched.
pub struct Executable {
    steps: Vec<Step>,
    chains: Vec<u32>,
    /// Flags it was instantiated with.
    pub flags: u64,
    /// Memory of its allocation nodes.
    memory: Vec<u64>,
    /// The end of its last launch: launches of one executable come one after the other.
    last: Option<Arc<Ticket>>,
}

impl Executable {
    /// Whether allocation nodes are among its nodes.
    pub fn owns_memory(&self) -> bool {
        !self.memory.is_empty()
    }
}

/// Appends the steps of a graph; those that nothing follows.
fn flatten(graph: &Graph, before: &[usize], steps: &mut Vec<Step>) -> Result<Vec<usize>, Status> {
    let order = graph.sorted().ok_or(Status::ERROR_INVALID_VALUE)?;
    let mut ends: BTreeMap<Handle, Vec<usize>> = BTreeMap::new();
    let mut last: BTreeSet<usize> = BTreeSet::new();
    for handle in order {
        let node = &graph.nodes[&handle];
        let mut after: Vec<usize> = node.after.iter().flat_map(|before| ends[before].clone()).collect();
        after.iter().for_each(|before| _ = last.remove(before));
        if node.after.is_empty() {
            after = before.to_vec();
        }
        let own = match &node.child {
            Some(child) => flatten(child, &after, steps)?,
            None => {
                steps.push(Step { source: handle, work: node.work.clone(), after, chain: 0, enabled: true });
                vec![steps.len() - 1]
            }
        };
        last.extend(&own);
        ends.insert(handle, own);
    }
    // An empty graph in the middle passes on what is before it.
    Ok(if graph.nodes.is_empty() { before.to_vec() } else { last.into_iter().collect() })
}

/// Gives each step a chain: that of one before it which nothing else continues, or a new one. How many there are.
fn chain(steps: &mut [Step]) -> usize {
    let mut continued = vec![false; steps.len()];
    let mut chains = 0;
    for at in 0..steps.len() {
        let before = steps[at].after.iter().copied().find(|&before| !continued[before]);
        steps[at].chain = match before {
            Some(before) => {
                continued[before] = true;
                steps[before].chain
            }
            None => {
                chains += 1;
                chains - 1
            }
        };
    }
    chains
}

impl State {
    /// Adds a graph.
    pub fn new_graph(&mut self, graph: Graph) -> Handle {
        let handle = self.new_handle();
        graph.nodes.keys().for_each(|node| _ = self.nodes.insert(*node, handle));
        self.graphs.insert(handle, graph);
        handle
    }

    /// A graph by its handle.
    pub fn graph(&mut self, handle: Handle) -> Result<&mut Graph, Status> {
        self.graphs.get_mut(&handle).ok_or(Status::ERROR_INVALID_VALUE)
    }

    /// A node by its handle, and the graph it is in.
    pub fn node(&mut self, handle: Handle) -> Result<(Handle, &mut Node), Status> {
        let graph = *self.nodes.get(&handle).ok_or(Status::ERROR_INVALID_VALUE)?;
        let node = self.graph(graph)?.nodes.get_mut(&handle).ok_or(Status::ERROR_INVALID_VALUE)?;
        Ok((graph, node))
    }

    /// Whether the nodes are all in the graph, none twice.
    pub fn in_graph(&mut self, graph: Handle, nodes: &[Handle]) -> Result<(), Status> {
        let graph = self.graph(graph)?;
        let distinct: BTreeSet<_> = nodes.iter().collect();
        if distinct.len() == nodes.len() && nodes.iter().all(|node| graph.nodes.contains_key(node)) {
            Ok(())
        } else {
            Err(Status::ERROR_INVALID_VALUE)
        }
    }

    /// Adds a node.
    pub fn add_node(&mut self, graph: Handle, work: Work, after: Vec<Handle>) -> Result<Handle, Status> {
        self.in_graph(graph, &after)?;
        let handle = self.new_handle();
        self.graph(graph)?.nodes.insert(handle, Node { work, after, child: None });
        self.nodes.insert(handle, graph);
        Ok(handle)
    }

    /// `cuGraphClone`, and what a child node holds: a copy with nodes of its own.
    pub fn clone_graph(&mut self, graph: Handle) -> Result<Graph, Status> {
        let original = self.graph(graph)?.clone();
        if !original.memory.is_empty() {
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        let copies: BTreeMap<Handle, Handle> =
            original.nodes.keys().map(|node| (*node, self.new_handle())).collect();
        let nodes = original.nodes.into_iter().map(|(handle, mut node)| {
            node.after.iter_mut().for_each(|before| *before = copies[before]);
            (copies[&handle], node)
        });
        let nodes = nodes.collect();
        let originals = copies.into_iter().map(|(original, copy)| (copy, original)).collect();
        Ok(Graph { nodes, originals, memory: BTreeMap::new() })
    }

    /// `cuGraphDestroy`
    pub fn destroy_graph(&mut self, handle: Handle) {
        if let Some(graph) = self.graphs.remove(&handle) {
            self.nodes.retain(|_, of| *of != handle);
            graph.memory.into_keys().for_each(|base| self.disown(base));
        }
    }

    /// `cuGraphInstantiate`
    pub fn instantiate(&mut self, graph: Handle, flags: u64) -> Result<Handle, Status> {
        let mut steps = Vec::new();
        let graph = self.graph(graph)?;
        flatten(graph, &[], &mut steps)?;
        let memory: Vec<u64> = graph.memory.keys().copied().collect();
        for base in &memory {
            if let Some(allocation) = self.allocations.get_mut(base) {
                allocation.graphs += 1;
            }
        }
        let chains = chain(&mut steps);
        let chains = (0..chains).map(|_| self.queue.new_chain()).collect();
        let handle = self.new_handle();
        self.executables.insert(handle, Executable { steps, chains, flags, memory, last: None });
        Ok(handle)
    }

    /// `cuGraphExecUpdate`: takes the work over from a graph of the same shape.
    ///
    /// # Errors
    /// `ERROR_GRAPH_EXEC_UPDATE_FAILURE` where the shape is another.
    pub fn update_executable(&mut self, executable: Handle, graph: Handle) -> Result<(), Status> {
        let mut steps = Vec::new();
        flatten(self.graph(graph)?, &[], &mut steps)?;
        let chains = chain(&mut steps);
        let executable = self.executables.get_mut(&executable).ok_or(Status::ERROR_INVALID_VALUE)?;
        let same = |(old, new): (&Step, &Step)| {
            old.after == new.after && std::mem::discriminant(&old.work) == std::mem::discriminant(&new.work)
        };
        let shapes = executable.steps.len() == steps.len() && executable.chains.len() == chains;
        if !shapes || !executable.steps.iter().zip(&steps).all(same) {
            return Err(Status::ERROR_GRAPH_EXEC_UPDATE_FAILURE);
        }
        for (old, new) in executable.steps.iter_mut().zip(steps) {
            old.work = new.work;
        }
        Ok(())
    }

    /// `cuGraphExecDestroy`
    pub fn destroy_executable(&mut self, handle: Handle) -> Result<(), Status> {
        let executable = self.executables.remove(&handle).ok_or(Status::ERROR_INVALID_VALUE)?;
        executable.chains.into_iter().for_each(|chain| self.queue.retire_chain(chain));
        executable.memory.into_iter().for_each(|base| self.disown(base));
        Ok(())
    }

    /// One graph less needs the memory.
    fn disown(&mut self, base: u64) {
        if let Some(allocation) = self.allocations.get_mut(&base) {
            allocation.graphs = allocation.graphs.saturating_sub(1);
            if allocation.graphs == 0 {
                self.release(base);
            }
        }
    }

    /// Changes what a node does in an executable graph.
    pub fn set_step(
        &mut self,
        executable: Handle,
        node: Handle,
        change: impl FnOnce(&mut Work) -> Result<(), Status>,
    ) -> Result<(), Status> {
        change(&mut self.step_of(executable, node)?.work)
    }

    /// Switches a node of an executable graph on or off.
    pub fn enable_step(&mut self, executable: Handle, node: Handle, enabled: bool) -> Result<(), Status> {
        self.step_of(executable, node)?.enabled = enabled;
        Ok(())
    }

    /// Whether a node of an executable graph is switched on.
    pub fn step_enabled(&mut self, executable: Handle, node: Handle) -> Result<bool, Status> {
        Ok(self.step_of(executable, node)?.enabled)
    }

    fn step_of(&mut self, executable: Handle, node: Handle) -> Result<&mut Step, Status> {
        let executable = self.executables.get_mut(&executable).ok_or(Status::ERROR_INVALID_VALUE)?;
        executable.steps.iter_mut().find(|step| step.source == node).ok_or(Status::ERROR_INVALID_VALUE)
    }

    /// `cuGraphLaunch`: gives all commands to the device, behind what the stream has.
    pub fn launch_graph(&mut self, handle: Handle, stream: Handle) -> Result<(), Status> {
        let target = self.streams.get(&stream).ok_or(Status::ERROR_INVALID_HANDLE)?;
        let context = target.context;
        if target.capture.is_some() {
            // A launch of a graph inside a capture would be a child node.
            self.forbid_on_captured(stream)?;
        }
        let executable = self.executables.get(&handle).ok_or(Status::ERROR_INVALID_VALUE)?;
        let (steps, chains) = (executable.steps.clone(), executable.chains.clone());
        let after: Tickets = executable.last.iter().cloned().collect();
        let place = format!("{}, in a graph", self.stream_name(stream));
        let Some(begin) = self.submit(stream, Work::Nothing, after)? else { return Ok(()) };
        let mut tickets: Tickets = Vec::new();
        for step in &steps {
            let mut after: Tickets = step.after.iter().map(|&before| tickets[before].clone()).collect();
            if after.is_empty() {
                after.push(begin.clone());
            }
            let mut work = if step.enabled { step.work.clone() } else { Work::Nothing };
            match &mut work {
                Work::Copy(copy) => self.stage_in_graph(copy),
                Work::Wait(event) => after.extend(self.event(*event)?.recorded.clone()),
                _ => {}
            }
            let chain = chains[step.chain];
            let ticket = self.queue.submit(context, chain, work, place.clone(), after);
            if let Work::Record(event) = step.work {
                let event = self.event(event)?;
                (event.recorded, event.captured) = (Some(ticket.clone()), None);
            }
            tickets.push(ticket);
        }
        let end = self.enqueue(stream, Work::Nothing, tickets);
        if let Some(executable) = self.executables.get_mut(&handle) {
            executable.last = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(after: &[Handle]) -> Node {
        Node { work: Work::Nothing, after: after.to_vec(), child: None }
    }

    fn graph(nodes: &[(Handle, &[Handle])]) -> Graph {
        let nodes = nodes.iter().map(|(handle, after)| (*handle, node(after))).collect();
        Graph { nodes, ..Graph::default() }
    }

    #[test]
    fn a_diamond_has_two_chains() {
        let diamond = graph(&[(1, &[]), (2, &[1]), (3, &[1]), (4, &[2, 3])]);
        let mut steps = Vec::new();
        assert_eq!(flatten(&diamond, &[], &mut steps), Ok(vec![3]));
        assert_eq!(chain(&mut steps), 2);
        let chains: Vec<usize> = steps.iter().map(|step| step.chain).collect();
        assert_eq!(chains, [0, 0, 1, 0]);
        assert_eq!(diamond.ancestors(&[3]), BTreeSet::from([1, 3]));
    }

    #[test]
    fn a_circle_is_refused() {
        let circle = graph(&[(1, &[2]), (2, &[1])]);
        assert_eq!(flatten(&circle, &[], &mut Vec::new()), Err(Status::ERROR_INVALID_VALUE));
    }

    #[test]
    fn a_child_graph_stands_between_what_is_before_and_behind_its_node() {
        let mut outer = graph(&[(1, &[]), (2, &[1]), (3, &[2])]);
        outer.nodes.get_mut(&2).unwrap().child = Some(Box::new(graph(&[(7, &[]), (8, &[])])));
        let mut steps = Vec::new();
        assert_eq!(flatten(&outer, &[], &mut steps), Ok(vec![3]));
        let after: Vec<&[usize]> = steps.iter().map(|step| step.after.as_slice()).collect();
        assert_eq!(after, [&[][..], &[0], &[0], &[1, 2]]);
        outer.nodes.get_mut(&2).unwrap().child = Some(Box::new(Graph::default()));
        steps.clear();
        assert_eq!(flatten(&outer, &[], &mut steps), Ok(vec![1]));
        assert_eq!(steps[1].after, [0]);
    }
}
