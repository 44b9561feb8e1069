import type { Supervisor } from '../async/supervise.ts';
import type { Libc } from '../dataplane/netlink/libc.ts';
import type { Logger } from '../telemetry/log.ts';
import { exitImmediately } from './process-exit.ts';
import type { ServiceManager } from './service-manager.ts';

/** How long the event loop may stall, in seconds, until the kernel kills the process, whatever supervises it. */
const maxStallSeconds = 90;
const tickMs = 5000;

/**
 * Supervises the daemon, and ends a hanging one so that it is restarted. Every tick of a timer notifies systemd's
 * watchdog and resets the kernel's alarm(2), which ends the process without systemd. If the event loop runs but a
 * background task hangs, the process exits immediately and logs the task.
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
      log.error('background task hangs; exiting for restart', {
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
