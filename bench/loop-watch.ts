import { writeFileSync } from 'node:fs';

/**
 * Loaded into the measured process with `--import`: measures the longest block of its event loop, by wall clock and by
 * CPU time of the main thread, which other work on the machine does not lengthen. SIGUSR2 writes both to the file
 * `LOOP_WATCH_FILE`, in milliseconds, and resets them.
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
