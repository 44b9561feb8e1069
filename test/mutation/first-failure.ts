import type { TestEvent } from 'node:test/reporters';

/** A reporter for node:test that ends the process with the first test that fails. */
// node:test takes a reporter from the default export.
// oxlint-disable-next-line import/no-default-export
export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of events) {
    if (event.type !== 'test:fail') continue;
    process.stdout.write(`${event.data.name}\n`);
    process.exit(1);
  }
  yield '';
}
