#pragma once

#include <string_view>

namespace gpustrap {

/// Python 3.6 or newer, standard library only, read from standard input. It prints one JSON document a GPU, with its uuid and either
/// `right` or an error, and ends with 0 where all were right. The kernel is PTX, which the driver compiles for whatever GPU is there:
/// every word of the first megabytes' 256-byte lines must come back as the one number that only this kernel on this index makes, and
/// the words between them as they were.
inline constexpr std::string_view kProbeScript = R"PYTHON(
import ctypes, json, os, sys

for name in ("CUDA_VISIBLE_DEVICES", "CUDA_MPS_PIPE_DIRECTORY"):
    os.environ.pop(name, None)
os.environ["CUDA_CACHE_DISABLE"] = "1"

LINES, STRIDE, FILL, SALT, BLOCK = 262144, 256, 0xA5A5A5A5, 0x9E3779B9, 256
PTX = b"""
.version 6.0
.target sm_30
.address_size 64
.visible .entry gpustrap_probe(.param .u64 base, .param .u32 count, .param .u32 salt)
{
  .reg .pred %p<2>;
  .reg .b32 %r<10>;
  .reg .b64 %d<4>;
  ld.param.u64 %d1, [base];
  ld.param.u32 %r1, [count];
  ld.param.u32 %r2, [salt];
  mov.u32 %r3, %ctaid.x;
  mov.u32 %r4, %ntid.x;
  mov.u32 %r5, %tid.x;
  mad.lo.u32 %r6, %r3, %r4, %r5;
  setp.ge.u32 %p1, %r6, %r1;
  @%p1 bra DONE;
  cvta.to.global.u64 %d2, %d1;
  mul.wide.u32 %d3, %r6, 256;
  add.s64 %d2, %d2, %d3;
  ld.global.u32 %r7, [%d2];
  mad.lo.u32 %r8, %r6, %r6, %r2;
  xor.b32 %r9, %r8, %r7;
  st.global.u32 [%d2], %r9;
DONE:
  ret;
}
"""

class CudaError(Exception):
    pass

def say(**row):
    row["gpustrap_probe"] = 1
    print(json.dumps(row), flush=True)

try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError:
    say(error="no libcuda", during="loading libcuda.so.1")
    sys.exit(1)

def call(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        known = cuda.cuGetErrorString(code, ctypes.byref(text)) == 0 and text.value
        raise CudaError(code, text.value.decode("utf-8", "replace") if known else "an unknown error", name)

def uuid_of(device):
    raw = (ctypes.c_ubyte * 16)()
    call("cuDeviceGetUuid", raw, device)
    text = bytes(raw).hex()
    return "GPU-" + "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

def prove(device):
    context, module, kernel = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    base, size = ctypes.c_uint64(), LINES * STRIDE
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    try:
        call("cuCtxSetCurrent", context)
        call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(PTX))
        call("cuModuleGetFunction", ctypes.byref(kernel), module, b"gpustrap_probe")
        call("cuMemAlloc_v2", ctypes.byref(base), ctypes.c_size_t(size))
        call("cuMemsetD32_v2", base, ctypes.c_uint(FILL), ctypes.c_size_t(size // 4))
        values = (base, ctypes.c_uint(LINES), ctypes.c_uint(SALT))
        pointers = (ctypes.c_void_p * 3)(*[ctypes.addressof(value) for value in values])
        call("cuLaunchKernel", kernel, LINES // BLOCK, 1, 1, BLOCK, 1, 1, 0, None, pointers, None)
        call("cuCtxSynchronize")
        words = (ctypes.c_uint32 * (size // 4))()
        call("cuMemcpyDtoH_v2", words, base, ctypes.c_size_t(size))
        call("cuMemFree_v2", base)
    finally:
        cuda.cuDevicePrimaryCtxRelease(device)
    step = STRIDE // 4
    written, beside = words[0::step], words[1::step]
    return beside == [FILL] * LINES and all(
        value == ((index * index + SALT) & 0xFFFFFFFF) ^ FILL for index, value in enumerate(written))

failed = False
try:
    count = ctypes.c_int()
    call("cuInit", 0)
    call("cuDeviceGetCount", ctypes.byref(count))
    for index in range(count.value):
        device = ctypes.c_int()
        call("cuDeviceGet", ctypes.byref(device), index)
        uuid = uuid_of(device)
        try:
            if prove(device):
                say(uuid=uuid, right=True)
            else:
                failed = True
                say(uuid=uuid, error="its results are wrong: memory or arithmetic is broken")
        except CudaError as problem:
            failed = True
            code, text, during = problem.args
            say(uuid=uuid, code=code, error=text, during=during)
except CudaError as problem:
    code, text, during = problem.args
    say(code=code, error=text, during=during)
    failed = True
except AttributeError as problem:
    say(error="libcuda.so.1 is too old: " + str(problem))
    failed = True
sys.exit(1 if failed else 0)
)PYTHON";

}  // namespace gpustrap
