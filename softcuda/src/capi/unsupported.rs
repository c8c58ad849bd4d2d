//! What programs may look for and softcuda does not do. Their arguments are not looked at.

use crate::driver::Status;

/// Entry points that answer `CUDA_ERROR_NOT_SUPPORTED`.
macro_rules! unsupported {
    ($($name:ident)*) => {
        entry_points! { $(fn $name() { Err(Status::ERROR_NOT_SUPPORTED) })* }
    };
}

unsupported! {
    cuTensorMapEncodeTiled cuTensorMapEncodeIm2col cuTensorMapEncodeIm2colWide cuTensorMapReplaceAddress
    cuMemCreate cuMemRelease cuMemMap cuMemUnmap cuMemSetAccess cuMemGetAccess cuMemAddressReserve cuMemAddressFree
    cuMemGetAllocationGranularity cuMemRetainAllocationHandle cuMemExportToShareableHandle
    cuMemImportFromShareableHandle cuMemGetHandleForAddressRange cuMemRangeGetAttribute cuMemRangeGetAttributes
    cuMemPoolExportToShareableHandle cuMemPoolImportFromShareableHandle cuMemPoolExportPointer cuMemPoolImportPointer
    cuMemcpyBatchAsync cuMemcpy3DPeer cuMemcpy3DPeerAsync cuMemcpy3DBatchAsync
    cuImportExternalMemory cuDestroyExternalMemory cuExternalMemoryGetMappedBuffer
    cuIpcGetEventHandle cuIpcOpenEventHandle cuIpcGetMemHandle cuIpcOpenMemHandle cuIpcCloseMemHandle
    cuArrayCreate cuArrayCreate_v2 cuArrayDestroy cuTexObjectCreate cuTexObjectDestroy cuModuleGetTexRef
    cuModuleGetSurfRef cuSurfObjectCreate cuSurfObjectDestroy
    cuLinkCreate cuLinkCreate_v2 cuLinkAddData cuLinkAddData_v2 cuLinkComplete cuLinkDestroy
    cuStreamWaitValue32 cuStreamWaitValue32_v2 cuStreamWriteValue32 cuStreamWriteValue32_v2 cuStreamWaitValue64
    cuStreamWaitValue64_v2 cuStreamWriteValue64 cuStreamWriteValue64_v2 cuStreamBatchMemOp cuStreamBatchMemOp_v2
    cuStreamGetAttribute cuStreamSetAttribute
    cuGraphAddNode cuGraphAddNode_v2 cuGraphAddMemAllocNode cuGraphAddMemFreeNode cuGraphKernelNodeGetParams
    cuGraphKernelNodeGetParams_v2 cuGraphMemcpyNodeGetParams cuGraphMemsetNodeGetParams cuGraphHostNodeGetParams
    cuGraphKernelNodeSetAttribute cuGraphKernelNodeGetAttribute cuGraphConditionalHandleCreate cuGraphDebugDotPrint
    cuDeviceGetGraphMemAttribute cuDeviceSetGraphMemAttribute cuDeviceGraphMemTrim
    cuLaunchCooperativeKernelMultiDevice cuLaunch cuLaunchGrid cuGetExportTable
    cuMulticastCreate cuGreenCtxCreate cuDeviceGetDevResource
}
