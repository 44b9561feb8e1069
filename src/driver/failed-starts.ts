import { backoffMs, pause, withDeadline } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import type { Logger } from '../telemetry/log.ts';
import type { DockerApi } from './docker/docker-api.ts';

export interface FailedStartsDeps {
  readonly docker: DockerApi;
  readonly log: Logger;
  /** Whether the datastore can be read and written now. */
  readonly isDatastoreBack: () => boolean;
}

const firstLookMs = 1000;
const longestMs = 30_000;
const answerMs = 5000;
/** A refused call of which no container says so by then was somebody's who is gone. */
const patienceMs = 60_000;

/**
 * What Docker keeps of a start when nobody served the plugin's sockets. Seen of 20.10 and 28.5, with the socket files of
 * a daemon that had crashed, and without any.
 */
const nobodyServed =
  /plugin "?calico(-ipam)?"? not found|\/calico(-ipam)?\.sock: connect: (connection refused|no such file)/;

/**
 * Starts the containers whose start failed only because the datastore, or this daemon, was away: Docker itself tries
 * once, at boot, and never again. Such a container is known by the error that Docker keeps of it, of the datastore by the
 * call's id at its end, so that nothing is started that was stopped, or failed for another reason. Only containers that
 * have a restart policy are: of the others somebody was told.
 */
export class FailedStarts {
  readonly #deps: FailedStartsDeps;
  readonly #refused = new Map<string, number>();
  /** Until Docker has been asked once: it may have started while nobody was here. */
  #mayHaveBeenAway = true;

  constructor(deps: FailedStartsDeps) {
    this.#deps = deps;
  }

  /** A call of Docker's was refused with an error of that code. */
  refused(callId: string, code: string): void {
    if (code.startsWith('datastore/')) this.#refused.set(callId, Date.now());
  }

  /** Looks for such containers until the signal is aborted; Docker is asked once, and after each refusal. */
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
