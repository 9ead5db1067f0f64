/* A webcam in a library: what Linux says of /dev/video0 (Video4Linux2, streaming through mapped buffers), for one process.
 *
 * Loaded before the C library (LD_PRELOAD), it answers `open`, `ioctl` and `close` for the device, so that FFmpeg's own
 * reader of webcams runs on a machine that has none. The environment says what the camera shows and does:
 *   WEBCAM_FRAMES   file of raw YUYV frames, shown again and again
 *   WEBCAM_WIDTH, WEBCAM_HEIGHT, WEBCAM_RATE
 *   WEBCAM_BUSY     another program has it
 *   WEBCAM_LEAVES   it is pulled out after so many frames
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BUFFERS 4
static const char *DEVICE = "/dev/video0";
static int device = -1, film = -1, queued[BUFFERS], first, waiting;
static long shown, frames;
static struct timespec next;

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static unsigned size(void) { return number("WEBCAM_WIDTH", 256) * number("WEBCAM_HEIGHT", 192) * 2; }

static int opened(void) {
    film = open(getenv("WEBCAM_FRAMES"), O_RDONLY);
    frames = lseek(film, 0, SEEK_END) / size();
    device = memfd_create("webcam", 0); /* its buffers lie in here, one after the other */
    return ftruncate(device, (long)BUFFERS * size()) ? -1 : device;
}

int open64(const char *path, int flags, ...) {
    static int (*real)(const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    if (!real) real = dlsym(RTLD_NEXT, "open64");
    return strcmp(path, DEVICE) ? real(path, flags, mode) : opened();
}

static int format_is(struct v4l2_pix_format *pixels) {
    pixels->width = number("WEBCAM_WIDTH", 256);
    pixels->height = number("WEBCAM_HEIGHT", 192);
    pixels->pixelformat = V4L2_PIX_FMT_YUYV;
    pixels->field = V4L2_FIELD_NONE;
    pixels->bytesperline = pixels->width * 2;
    pixels->sizeimage = size();
    return 0;
}

static int filled(struct v4l2_buffer *buffer) {
    long rate = number("WEBCAM_RATE", 30), leaves = number("WEBCAM_LEAVES", -1);
    if (shown == leaves) return errno = ENODEV, -1;
    if (!waiting) return errno = EAGAIN, -1;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    clock_gettime(CLOCK_MONOTONIC, &next); /* frames that nobody was ready for are lost, as in a camera */
    next.tv_nsec += 1000000000 / rate;
    next.tv_sec += next.tv_nsec / 1000000000;
    next.tv_nsec %= 1000000000;
    buffer->index = queued[first];
    first = (first + 1) % BUFFERS;
    waiting--;
    char *place = mmap(NULL, (long)BUFFERS * size(), PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
    pread(film, place + (long)buffer->index * size(), size(), shown++ % frames * size());
    munmap(place, (long)BUFFERS * size());
    buffer->bytesused = buffer->length = size();
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    buffer->timestamp = (struct timeval){next.tv_sec, next.tv_nsec / 1000};
    return 0;
}

int ioctl(int file, unsigned long request, ...) {
    static int (*real)(int, unsigned long, ...);
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (!real) real = dlsym(RTLD_NEXT, "ioctl");
    if (file < 0 || file != device) return real(file, request, argument);
    struct v4l2_buffer *buffer = argument;
    switch ((unsigned)request) {
    case VIDIOC_QUERYCAP:
        ((struct v4l2_capability *)argument)->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    case VIDIOC_G_INPUT: return *(int *)argument = 0;
    case VIDIOC_S_INPUT: return 0;
    case VIDIOC_ENUMINPUT:
        return ((struct v4l2_input *)argument)->index ? (errno = EINVAL, -1) : 0;
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *format = argument;
        format->pixelformat = V4L2_PIX_FMT_YUYV;
        return format->index ? (errno = EINVAL, -1) : 0;
    }
    case VIDIOC_S_FMT:
        if (getenv("WEBCAM_BUSY")) return errno = EBUSY, -1; /* fall through */
    case VIDIOC_G_FMT:
    case VIDIOC_TRY_FMT: return format_is(&((struct v4l2_format *)argument)->fmt.pix);
    case VIDIOC_S_PARM:
    case VIDIOC_G_PARM: {
        struct v4l2_captureparm *asked = &((struct v4l2_streamparm *)argument)->parm.capture;
        asked->capability = V4L2_CAP_TIMEPERFRAME;
        asked->timeperframe = (struct v4l2_fract){1, number("WEBCAM_RATE", 30)};
        return 0;
    }
    case VIDIOC_REQBUFS: ((struct v4l2_requestbuffers *)argument)->count = BUFFERS; return 0;
    case VIDIOC_QUERYBUF:
        buffer->length = size();
        buffer->m.offset = buffer->index * size();
        return 0;
    case VIDIOC_QBUF:
        queued[(first + waiting++) % BUFFERS] = buffer->index;
        return 0;
    case VIDIOC_STREAMON: return clock_gettime(CLOCK_MONOTONIC, &next);
    case VIDIOC_STREAMOFF: return 0;
    case VIDIOC_DQBUF: return filled(buffer);
    }
    return errno = ENOTTY, -1;
}
