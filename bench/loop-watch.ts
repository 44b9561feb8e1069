import { writeFileSync } from 'node:fs';

/**
 * Loaded into the measured process with `--import`: how long its event loop was blocked at most, by the clock and by
 * the processor time of its main thread, which other work on the machine does not lengthen. SIGUSR2 has it written to
 * the file of `LOOP_WATCH_FILE`, as milliseconds, and begins anew.
 */

const file = process.env['LOOP_WATCH_FILE'];
let last = { ms: performance.now(), processorMs: processorMs() };
let longest = { ms: 0, processorMs: 0 };

function processorMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

function look(): void {
  const now = { ms: performance.now(), processorMs: processorMs() };
  longest = {
    ms: Math.max(longest.ms, now.ms - last.ms),
    processorMs: Math.max(longest.processorMs, now.processorMs - last.processorMs),
  };
  last = now;
}

if (file !== undefined) {
  setInterval(look, 1).unref();
  process.on('SIGUSR2', () => {
    look();
    writeFileSync(file, JSON.stringify(longest));
    longest = { ms: 0, processorMs: 0 };
  });
}
