/* The control loop: the main thread's libuv loop, from start to exit. It waits for brokers and topics, starts the lanes,
 * watches them, tells systemd and HTTP how they are, and stops them on SIGTERM, SIGINT, or the end of one of them.
 * It never touches what lanes own: their status comes over the status board, their end over lane_finished. */
#ifndef DAEMON_CONTROL_H
#define DAEMON_CONTROL_H

#include "config/config.h"
#include "io/interaction.h"
#include "model/backbone.h"
#include "model/network.h"

/* From now on SIGTERM and SIGINT are noted, and a control_run that comes later stops at once. */
void control_note_signals(void);

/* Runs until told to stop: STATUS_OK after an orderly stop. Errors: STATUS_CONFIG (a topic is missing or has the wrong
 * shape; fenced by a twin), what a lane ended with, STATUS_IO (http.listen cannot be had), STATUS_MEMORY. A stop that
 * outlasts shutdown.deadline_ms, or a second signal, ends the process from within, with 69 or the first error's code. `net` is
 * the backbone's, as network_load_beside gives it.
 * Main thread, once. */
enum status control_run(const struct config *config, const struct backbone *backbone, struct network *net,
			const struct interaction_decoder *decoder, struct error *err) MUST_CHECK;

#endif
