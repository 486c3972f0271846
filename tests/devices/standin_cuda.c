/* A driver without a GPU: host memory for device memory, a monotonic clock for events. It does what cuda.h documents of each call and
 * answers CUDA_ERROR_INVALID_VALUE (1) to what cannot be meant, so that a wrong signature or order shows. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <time.h>

typedef struct { int magic; double at_ms; } event_t;
typedef struct { int magic; } stream_t;
enum { EVENT = 0xE7E27, STREAM = 0x57BEA };
static int ready, live;

static int stream_ok(void *stream) { return stream && ((stream_t *)stream)->magic == STREAM; }
static int event_ok(void *event) { return event && ((event_t *)event)->magic == EVENT; }

int cuInit(unsigned flags) { if (getenv("STANDIN_NO_GPU")) return 100; ready = flags == 0; return flags != 0; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGet(int *device, int ordinal) { if (!ready || ordinal) return 1; *device = 0; return 0; }
int cuDeviceGetName(char *name, int length, int device) { (void)device; return snprintf(name, length, "Stand-in GPU") >= length; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (device) return 1;
    if (attribute == 75) *value = 8; else if (attribute == 76) *value = 7; else return 1;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { if (device) return 1; *context = malloc(8); live++; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { live--; return device; }
int cuCtxSetCurrent(void *context) { return context ? 0 : 1; }
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) { *total = (size_t)8 << 30; *free_bytes = (size_t)5 << 30; return 0; }
int cuMemAlloc_v2(uint64_t *address, size_t size) { *address = (uint64_t)(uintptr_t)malloc(size); live++; return 0; }
int cuMemFree_v2(uint64_t address) { free((void *)(uintptr_t)address); live--; return 0; }
int cuMemAllocHost_v2(void **address, size_t size) { *address = malloc(size); live++; return 0; }
int cuMemFreeHost(void *address) { free(address); live--; return 0; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
    if (!stream_ok(stream)) return 1;
    memcpy((void *)(uintptr_t)to, from, size);
    return 0;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
    if (!stream_ok(stream)) return 1;
    memcpy(to, (void *)(uintptr_t)from, size);
    return 0;
}
int cuStreamCreate(void **stream, unsigned flags) {
    stream_t *made = malloc(sizeof *made);
    made->magic = STREAM; *stream = made; live++;
    return flags > 1;
}
int cuStreamDestroy_v2(void *stream) { if (!stream_ok(stream)) return 1; free(stream); live--; return 0; }
int cuStreamSynchronize(void *stream) { return !stream_ok(stream); }
int cuEventCreate(void **event, unsigned flags) {
    event_t *made = malloc(sizeof *made);
    made->magic = EVENT; made->at_ms = -1; *event = made; live++;
    return flags != 0;
}
int cuEventDestroy_v2(void *event) { if (!event_ok(event)) return 1; free(event); live--; return 0; }
int cuEventRecord(void *event, void *stream) {
    if (!event_ok(event) || !stream_ok(stream)) return 1;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    ((event_t *)event)->at_ms = now.tv_sec * 1e3 + now.tv_nsec / 1e6;
    return 0;
}
int cuEventElapsedTime(float *ms, void *start, void *end) {
    if (!event_ok(start) || !event_ok(end)) return 1;
    if (((event_t *)start)->at_ms < 0 || ((event_t *)end)->at_ms < 0) return 400; /* CUDA_ERROR_INVALID_HANDLE: never recorded */
    *ms = (float)(((event_t *)end)->at_ms - ((event_t *)start)->at_ms);
    return 0;
}
int cuGetErrorString(int code, const char **text) {
    *text = code == 100 ? "no CUDA-capable device is detected" : code == 400 ? "invalid resource handle" : "invalid argument";
    return 0;
}
int standin_live(void) { return live; }
