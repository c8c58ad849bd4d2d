//! Nodes of graphs and the edges between them.

use std::collections::BTreeSet;
use std::ffi::{c_uint, c_void};

use super::copy::Copy3d;
use super::{answer, list, wanted};
use crate::driver::graphs::{Graph, Node};
use crate::driver::launches::Request;
use crate::driver::work::{Fill, HostFunction, Work};
use crate::driver::{DRIVER, Handle, State, Status};

/// `CUDA_KERNEL_NODE_PARAMS` as it was before CUDA 12.
#[repr(C)]
struct KernelNode {
    function: Handle,
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared: c_uint,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
}

/// `CUDA_KERNEL_NODE_PARAMS`
#[repr(C)]
struct KernelNode2 {
    first: KernelNode,
    kernel: Handle,
    context: Handle,
}

impl KernelNode {
    fn work(&self, state: &mut State, kernel: Handle) -> Result<Work, Status> {
        let function = if self.function == 0 { kernel } else { self.function };
        let KernelNode { grid, block, shared, parameters, extra, .. } = *self;
        let request = Request { function, grid, block, shared, parameters, extra, cooperative: false };
        state.prepare_launch(&request).map(Work::Launch)
    }
}

/// `CUDA_MEMSET_NODE_PARAMS`
#[repr(C)]
struct FillNode {
    to: u64,
    pitch: usize,
    value: c_uint,
    element: c_uint,
    width: usize,
    height: usize,
}

impl FillNode {
    fn work(&self, state: &State) -> Result<Work, Status> {
        let fill = Fill {
            to: self.to,
            pitch: self.pitch as u64,
            value: self.value,
            element: self.element,
            width: self.width as u64,
            rows: self.height as u64,
        };
        state.fillable(&fill)?;
        Ok(Work::Fill(fill))
    }
}

/// `CUDA_HOST_NODE_PARAMS`
#[repr(C)]
struct HostNode {
    function: Option<HostFunction>,
    data: *mut c_void,
}

/// Adds a node behind others and answers its handle.
unsafe fn add(
    node: *mut Handle,
    graph: Handle,
    (after, count): (*const Handle, usize),
    work: impl FnOnce(&mut State) -> Result<Work, Status>,
) -> Result<(), Status> {
    wanted(node)?;
    // SAFETY: the program says that so many lie there, and that there is room for the answer.
    unsafe {
        let after = list(after, count)?.to_vec();
        let handle = DRIVER.in_context(|state, _| {
            let work = work(state)?;
            state.add_node(graph, work, after)
        })?;
        answer(node, handle)
    }
}

/// A reference to what the program points at.
unsafe fn given<'a, T>(pointer: *const T) -> Result<&'a T, Status> {
    // SAFETY: as the program says.
    unsafe { pointer.as_ref() }.ok_or(Status::ERROR_INVALID_VALUE)
}

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

/// Replaces what a node does by something of the same kind.
fn replace(old: &mut Work, new: Work) -> Result<(), Status> {
    if std::mem::discriminant(old) != std::mem::discriminant(&new) {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    *old = new;
    Ok(())
}

fn set_node(node: Handle, work: impl FnOnce(&mut State) -> Result<Work, Status>) -> Result<(), Status> {
    DRIVER.in_context(|state, _| {
        let work = work(state)?;
        replace(&mut state.node(node)?.1.work, work)
    })
}

fn set_step(
    executable: Handle,
    node: Handle,
    work: impl FnOnce(&mut State) -> Result<Work, Status>,
) -> Result<(), Status> {
    DRIVER.in_context(|state, _| {
        let work = work(state)?;
        state.set_step(executable, node, |old| replace(old, work))
    })
}

impl HostNode {
    fn work(&self) -> Result<Work, Status> {
        let function = self.function.ok_or(Status::ERROR_INVALID_VALUE)?;
        Ok(Work::Call(function, self.data as usize))
    }
}

/// `CUgraphNodeType`
fn kind(node: &Node) -> c_uint {
    match node.work {
        _ if node.child.is_some() => 4,
        Work::Launch(_) => 0,
        Work::Copy(_) => 1,
        Work::Fill(_) => 2,
        Work::Call(..) | Work::Callback(..) => 3,
        Work::Nothing => 5,
        Work::Wait(_) => 6,
        Work::Record(_) => 7,
        Work::Allocate(..) => 10,
        Work::Free(..) | Work::GraphFree(..) => 11,
    }
}

entry_points! {
    fn cuGraphAddKernelNode_v2(
        node: *mut Handle,
        graph: Handle,
        after: *const Handle,
        count: usize,
        parameters: *const KernelNode2,
    ) {
        let parameters = given(parameters)?;
        add(node, graph, (after, count), |state| parameters.first.work(state, parameters.kernel))
    }

    fn cuGraphAddKernelNode(
        node: *mut Handle,
        graph: Handle,
        after: *const Handle,
        count: usize,
        parameters: *const KernelNode,
    ) {
        let parameters = given(parameters)?;
        add(node, graph, (after, count), |state| parameters.work(state, 0))
    }

    fn cuGraphAddMemcpyNode(
        node: *mut Handle,
        graph: Handle,
        after: *const Handle,
        count: usize,
        copy: *const Copy3d,
        _context: Handle,
    ) {
        let copy = given(copy)?;
        add(node, graph, (after, count), |state| copy.copy(state).map(Work::Copy))
    }

    fn cuGraphAddMemsetNode(
        node: *mut Handle,
        graph: Handle,
        after: *const Handle,
        count: usize,
        parameters: *const FillNode,
        _context: Handle,
    ) {
        let parameters = given(parameters)?;
        add(node, graph, (after, count), |state| parameters.work(state))
    }

    fn cuGraphAddHostNode(
        node: *mut Handle,
        graph: Handle,
        after: *const Handle,
        count: usize,
        parameters: *const HostNode,
    ) {
        let parameters = given(parameters)?;
        add(node, graph, (after, count), |_| parameters.work())
    }

    fn cuGraphAddEmptyNode(node: *mut Handle, graph: Handle, after: *const Handle, count: usize) {
        add(node, graph, (after, count), |_| Ok(Work::Nothing))
    }

    fn cuGraphAddEventRecordNode(
        node: *mut Handle,
        graph: Handle,
        after: *const Handle,
        count: usize,
        event: Handle,
    ) {
        add(node, graph, (after, count), |state| state.event(event).map(|_| Work::Record(event)))
    }

    fn cuGraphAddEventWaitNode(
        node: *mut Handle,
        graph: Handle,
        after: *const Handle,
        count: usize,
        event: Handle,
    ) {
        add(node, graph, (after, count), |state| state.event(event).map(|_| Work::Wait(event)))
    }

    fn cuGraphAddChildGraphNode(
        node: *mut Handle,
        graph: Handle,
        after: *const Handle,
        count: usize,
        child: Handle,
    ) {
        let mut own = 0;
        add(&raw mut own, graph, (after, count), |state| state.graph(child).map(|_| Work::Nothing))?;
        DRIVER.in_context(|state, _| {
            let copy = state.clone_graph(child)?;
            state.node(own)?.1.child = Some(Box::new(copy));
            Ok(())
        })?;
        answer(node, own)
    }

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

    fn cuGraphNodeGetType(node: Handle, to: *mut c_uint) {
        DRIVER.with(|state| answer(to, kind(state.node(node)?.1)))
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

    fn cuGraphKernelNodeSetParams_v2(node: Handle, parameters: *const KernelNode2) {
        let parameters = given(parameters)?;
        set_node(node, |state| parameters.first.work(state, parameters.kernel))
    }

    fn cuGraphKernelNodeSetParams(node: Handle, parameters: *const KernelNode) {
        let parameters = given(parameters)?;
        set_node(node, |state| parameters.work(state, 0))
    }

    fn cuGraphMemcpyNodeSetParams(node: Handle, copy: *const Copy3d) {
        let copy = given(copy)?;
        set_node(node, |state| copy.copy(state).map(Work::Copy))
    }

    fn cuGraphMemsetNodeSetParams(node: Handle, parameters: *const FillNode) {
        let parameters = given(parameters)?;
        set_node(node, |state| parameters.work(state))
    }

    fn cuGraphHostNodeSetParams(node: Handle, parameters: *const HostNode) {
        let parameters = given(parameters)?;
        set_node(node, |_| parameters.work())
    }

    fn cuGraphExecKernelNodeSetParams_v2(executable: Handle, node: Handle, parameters: *const KernelNode2) {
        let parameters = given(parameters)?;
        set_step(executable, node, |state| parameters.first.work(state, parameters.kernel))
    }

    fn cuGraphExecKernelNodeSetParams(executable: Handle, node: Handle, parameters: *const KernelNode) {
        let parameters = given(parameters)?;
        set_step(executable, node, |state| parameters.work(state, 0))
    }

    fn cuGraphExecMemcpyNodeSetParams(executable: Handle, node: Handle, copy: *const Copy3d, _context: Handle) {
        let copy = given(copy)?;
        set_step(executable, node, |state| copy.copy(state).map(Work::Copy))
    }

    fn cuGraphExecMemsetNodeSetParams(
        executable: Handle,
        node: Handle,
        parameters: *const FillNode,
        _context: Handle,
    ) {
        let parameters = given(parameters)?;
        set_step(executable, node, |state| parameters.work(state))
    }

    fn cuGraphExecHostNodeSetParams(executable: Handle, node: Handle, parameters: *const HostNode) {
        let parameters = given(parameters)?;
        set_step(executable, node, |_| parameters.work())
    }

    fn cuGraphNodeSetEnabled(executable: Handle, node: Handle, enabled: c_uint) {
        DRIVER.with(|state| state.enable_step(executable, node, enabled != 0))
    }

    fn cuGraphNodeGetEnabled(executable: Handle, node: Handle, enabled: *mut c_uint) {
        DRIVER.with(|state| {
            let found = state.step_enabled(executable, node)?;
            answer(enabled, c_uint::from(found))
        })
    }
}
