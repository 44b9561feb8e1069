import { backoffMs, pause, withDeadline } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import type { Logger } from '../telemetry/log.ts';
import type { DockerApi } from './docker/docker-api.ts';

export interface FailedStartsDeps {
  readonly docker: DockerApi;
  readonly log: Logger;
  /** Reports whether the datastore is readable and writable now. */
  readonly isDatastoreBack: () => boolean;
}

const firstLookMs = 1000;
const longestMs = 30_000;
const answerMs = 5000;
/** A rejected call that no container names by then belongs to a removed container. */
const patienceMs = 60_000;

/**
 * The error that Docker keeps of a start while nobody listened on the plugin's sockets. Observed with 20.10 and 28.5,
 * with and without socket files of a crashed daemon.
 */
const nobodyServed =
  /plugin "?calico(-ipam)?"? not found|\/calico(-ipam)?\.sock: connect: (connection refused|no such file)/;

/**
 * Starts containers whose start failed only because the datastore or this daemon was unavailable: Docker itself tries
 * once, at boot, and never again. They are identified by the error that Docker keeps (for the datastore by the call ID
 * at its end), so that a container that was stopped, or failed for another reason, is not started. Only containers
 * with a restart policy are started: the others were started by a user, who saw the error.
 */
export class FailedStarts {
  readonly #deps: FailedStartsDeps;
  readonly #refused = new Map<string, number>();
  /** Until Docker was queried once: it may have started before this daemon. */
  #mayHaveBeenAway = true;

  constructor(deps: FailedStartsDeps) {
    this.#deps = deps;
  }

  /** A call from Docker was rejected with that error code. */
  refused(callId: string, code: string): void {
    if (code.startsWith('datastore/')) this.#refused.set(callId, Date.now());
  }

  /** Starts such containers until the signal is aborted; queries Docker once, and after each rejected call. */
  async run(work: Work, signal: AbortSignal): Promise<void> {
    let delays = backoffMs(firstLookMs, longestMs);
    while (!signal.aborted) {
      const mayBeAny = this.#mayHaveBeenAway || this.#refused.size > 0;
      await pause(mayBeAny ? delays.next().value : firstLookMs, signal);
      if (!this.#mayHaveBeenAway && this.#refused.size === 0)
        delays = backoffMs(firstLookMs, longestMs);
      else if (this.#deps.isDatastoreBack()) await this.#startAll(work, signal);
    }
  }

  async #startAll(work: Work, signal: AbortSignal): Promise<void> {
    const { docker, log } = this.#deps;
    const known = new Set(this.#refused.keys());
    try {
      for (const { Id, State } of await docker.containers(withDeadline(signal, answerMs))) {
        if (State === 'running' || State === 'removing') continue;
        const start = await docker.lastStart(Id, withDeadline(signal, answerMs));
        const callId = [...known].find((id) => start?.error.includes(`[${id}]`));
        const isForAbsence = this.#mayHaveBeenAway && nobodyServed.test(start?.error ?? '');
        if (start === undefined || (callId === undefined && !isForAbsence)) continue;
        if (callId !== undefined) this.#refused.delete(callId);
        if (!start.hasRestartPolicy) continue;
        const away = isForAbsence ? 'calico-cnm' : 'the datastore';
        log.info(`container restarted: ${away} is available again`, {
          container: start.name,
        });
        await docker.start(Id, withDeadline(signal, longestMs));
      }
      this.#mayHaveBeenAway = false;
      this.#forgetOld(Date.now());
      work.succeeded();
    } catch (error) {
      if (!signal.aborted) work.failed(error);
    }
  }

  #forgetOld(now: number): void {
    for (const [id, at] of this.#refused) if (now - at > patienceMs) this.#refused.delete(id);
  }
}
