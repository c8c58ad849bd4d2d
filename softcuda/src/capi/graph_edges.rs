//! The nodes that a graph has, and the edges between them.

use std::collections::BTreeSet;
use std::ffi::c_void;

use super::{answer, list, wanted};
use crate::driver::graphs::{Graph, Node};
use crate::driver::{DRIVER, Handle, Status};

/// Writes as many handles as there is room for; with no place to write to, answers how many there are.
unsafe fn answer_list(found: &[Handle], to: *mut Handle, count: *mut usize) -> Result<(), Status> {
    wanted(count)?;
    // SAFETY: the program says that there is room for so many.
    unsafe {
        if to.is_null() {
            return answer(count, found.len());
        }
        let room = *count;
        for at in 0..room {
            *to.add(at) = found.get(at).copied().unwrap_or(0);
        }
        answer(count, room.min(found.len()))
    }
}

/// All edges of a graph.
fn edges(graph: &Graph) -> Vec<(Handle, Handle)> {
    let edges = graph.nodes.iter().flat_map(|(to, node)| node.after.iter().map(|from| (*from, *to)));
    edges.collect()
}

unsafe fn answer_edges(
    graph: Handle,
    from: *mut Handle,
    to: *mut Handle,
    count: *mut usize,
) -> Result<(), Status> {
    wanted(count)?;
    let found = DRIVER.with(|state| Ok(edges(state.graph(graph)?)))?;
    let (sources, targets): (Vec<Handle>, Vec<Handle>) = found.into_iter().unzip();
    // SAFETY: as the program says.
    unsafe {
        let mut room = *count;
        answer_list(&sources, from, &mut room)?;
        answer_list(&targets, to, count)
    }
}

/// Changes the edges between pairs of nodes of one graph.
unsafe fn change_edges(
    graph: Handle,
    (from, to, count): (*const Handle, *const Handle, usize),
    change: impl Fn(&mut Node, Handle) -> Result<(), Status>,
) -> Result<(), Status> {
    // SAFETY: as the program says.
    let (from, to) = unsafe { (list(from, count)?, list(to, count)?) };
    DRIVER.with(|state| {
        let graph = state.graph(graph)?;
        let known: BTreeSet<Handle> = graph.nodes.keys().copied().collect();
        if from.iter().chain(to).any(|node| !known.contains(node)) {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let pairs = from.iter().zip(to);
        pairs.into_iter().try_for_each(|(from, to)| match graph.nodes.get_mut(to) {
            Some(node) if from != to => change(node, *from),
            _ => Err(Status::ERROR_INVALID_VALUE),
        })
    })
}

fn add_edge(node: &mut Node, before: Handle) -> Result<(), Status> {
    if node.after.contains(&before) {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    node.after.push(before);
    Ok(())
}

fn remove_edge(node: &mut Node, before: Handle) -> Result<(), Status> {
    let at = node.after.iter().position(|edge| *edge == before).ok_or(Status::ERROR_INVALID_VALUE)?;
    node.after.remove(at);
    Ok(())
}

unsafe fn dependents(node: Handle, to: *mut Handle, count: *mut usize) -> Result<(), Status> {
    let found: Vec<Handle> = DRIVER.with(|state| {
        let (graph, _) = state.node(node)?;
        let edges = edges(state.graph(graph)?);
        Ok(edges.into_iter().filter(|(from, _)| *from == node).map(|(_, to)| to).collect())
    })?;
    // SAFETY: as the program says.
    unsafe { answer_list(&found, to, count) }
}

entry_points! {
    fn cuGraphAddDependencies(graph: Handle, from: *const Handle, to: *const Handle, count: usize) {
        change_edges(graph, (from, to, count), add_edge)
    }

    fn cuGraphAddDependencies_v2(
        graph: Handle,
        from: *const Handle,
        to: *const Handle,
        _edges: *const c_void,
        count: usize,
    ) {
        change_edges(graph, (from, to, count), add_edge)
    }

    fn cuGraphRemoveDependencies(graph: Handle, from: *const Handle, to: *const Handle, count: usize) {
        change_edges(graph, (from, to, count), remove_edge)
    }

    fn cuGraphRemoveDependencies_v2(
        graph: Handle,
        from: *const Handle,
        to: *const Handle,
        _edges: *const c_void,
        count: usize,
    ) {
        change_edges(graph, (from, to, count), remove_edge)
    }

    fn cuGraphGetNodes(graph: Handle, nodes: *mut Handle, count: *mut usize) {
        let found: Vec<Handle> = DRIVER.with(|state| Ok(state.graph(graph)?.nodes.keys().copied().collect()))?;
        answer_list(&found, nodes, count)
    }

    fn cuGraphGetRootNodes(graph: Handle, nodes: *mut Handle, count: *mut usize) {
        let found: Vec<Handle> = DRIVER.with(|state| {
            let roots = state.graph(graph)?.nodes.iter().filter(|(_, node)| node.after.is_empty());
            Ok(roots.map(|(handle, _)| *handle).collect())
        })?;
        answer_list(&found, nodes, count)
    }

    fn cuGraphGetEdges(graph: Handle, from: *mut Handle, to: *mut Handle, count: *mut usize) {
        answer_edges(graph, from, to, count)
    }

    fn cuGraphGetEdges_v2(
        graph: Handle,
        from: *mut Handle,
        to: *mut Handle,
        _edges: *mut c_void,
        count: *mut usize,
    ) {
        answer_edges(graph, from, to, count)
    }

    fn cuGraphNodeGetDependencies(node: Handle, nodes: *mut Handle, count: *mut usize) {
        let found = DRIVER.with(|state| Ok(state.node(node)?.1.after.clone()))?;
        answer_list(&found, nodes, count)
    }

    fn cuGraphNodeGetDependentNodes(node: Handle, nodes: *mut Handle, count: *mut usize) {
        dependents(node, nodes, count)
    }

    fn cuGraphDestroyNode(node: Handle) {
        DRIVER.with(|state| {
            let (graph, _) = state.node(node)?;
            let graph = state.graph(graph)?;
            graph.nodes.remove(&node);
            graph.nodes.values_mut().for_each(|other| other.after.retain(|before| *before != node));
            state.nodes.remove(&node);
            Ok(())
        })
    }

    fn cuGraphNodeFindInClone(found: *mut Handle, original: Handle, clone: Handle) {
        wanted(found)?;
        DRIVER.with(|state| {
            let mut copies = state.graph(clone)?.originals.iter();
            let copy = copies.find(|(_, from)| **from == original).map(|(copy, _)| *copy);
            answer(found, copy.ok_or(Status::ERROR_INVALID_VALUE)?)
        })
    }
}
