import type { Supervisor } from '../async/supervise.ts';
import type { Libc } from '../dataplane/netlink/libc.ts';
import type { Logger } from '../telemetry/log.ts';
import { exitImmediately } from './process-exit.ts';
import type { ServiceManager } from './service-manager.ts';

/** How long the event loop may stand still, in seconds, until the kernel ends the process, who ever supervises it. */
const maxStallSeconds = 90;
const tickMs = 5000;

/**
 * Sees that the daemon lives, or ends it so that it is started again. Each turn of a timer of the event loop tells
 * systemd that it does, and winds up the kernel's alarm clock, which ends the process where there is no systemd. Where
 * the event loop turns but a piece of work has hung for long, it ends the process itself and names that.
 */
export function startWatchdog(
  deps: {
    readonly libc: Libc;
    readonly supervisor: Supervisor;
    readonly manager: ServiceManager;
    readonly log: Logger;
  },
  signal: AbortSignal,
): void {
  const { libc, supervisor, manager, log } = deps;
  const tick = () => {
    const hanging = supervisor.hanging();
    if (hanging.length > 0) {
      log.error('background work hangs, which ends the daemon; it is to be started again', {
        work: hanging,
      });
      exitImmediately(1);
    }
    libc.alarm(maxStallSeconds);
    manager.alive();
  };
  tick();
  const timer = setInterval(tick, Math.min(tickMs, (manager.watchdogMs ?? Infinity) / 2)).unref();
  signal.addEventListener('abort', () => clearInterval(timer), { once: true });
}
