import type { TestEvent } from 'node:test/reporters';

/**
 * A reporter for node:test that writes what the last line of the test command is made of: the numbers of
 * passed, failed and skipped tests, and a line for each failed and skipped one. A suite is counted where its
 * tests do not tell: when it is skipped as a whole, and when something outside of its tests failed, a hook say.
 * A line for each file has the seconds of its suites one after the other.
 */
// node:test takes a reporter from the default export.
// oxlint-disable-next-line import/no-default-export
export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  let [passed, failed, skipped] = [0, 0, 0];
  const seconds = new Map<string, number>();
  for await (const event of events) {
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue;
    const { name, skip, details, nesting, file = '' } = event.data;
    if (nesting === 0) {
      seconds.set(file, (seconds.get(file) ?? 0) + details.duration_ms / 1000);
    }
    const isSuite = details.type === 'suite';
    if (skip !== undefined && skip !== false) {
      skipped++;
      yield `skipped: ${name}: ${String(skip)} (${file})\n`;
    } else if (event.type === 'test:pass') {
      if (!isSuite) passed++;
    } else if (!isSuite || !failedByItsTests(event.data.details.error)) {
      failed++;
      yield `failed: ${name}${isSuite ? ' (outside of its tests)' : ''} (${file})\n`;
    }
  }
  for (const [file, of] of seconds) yield `seconds: ${Math.round(of)} ${file}\n`;
  yield `counts ${passed} ${failed} ${skipped}\n`;
}

function failedByItsTests(error: Error): boolean {
  return 'failureType' in error && error.failureType === 'subtestsFailed';
}
