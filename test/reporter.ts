import type { TestEvent } from 'node:test/reporters';

/**
 * A reporter for node:test that writes what the last line of the test command is made of: the numbers of
 * passed, failed and skipped tests (suites are not counted), and a line for each failed and skipped one.
 */
// node:test takes a reporter from the default export.
// oxlint-disable-next-line import/no-default-export
export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  let [passed, failed, skipped] = [0, 0, 0];
  for await (const event of events) {
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue;
    const { name, skip, details, file = '' } = event.data;
    // A suite counts only if it is skipped as a whole, for then its tests are not told.
    if (skip !== undefined && skip !== false) {
      skipped++;
      yield `skipped: ${name}: ${String(skip)} (${file})\n`;
    } else if (details.type === 'suite') {
      continue;
    } else if (event.type === 'test:pass') {
      passed++;
    } else {
      failed++;
      yield `failed: ${name} (${file})\n`;
    }
  }
  yield `counts ${passed} ${failed} ${skipped}\n`;
}
