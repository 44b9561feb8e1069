import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startCommandLine, type CommandLine } from '../command-line.fixture.ts';
import { templates } from './templates.ts';

const words = (text: string) => text.split(' ');

/** Arguments for the parameters without a default. */
const required: Readonly<Record<string, string>> = {
  project: 'shop',
  backend: 'service=app',
  'backend-ports': '8080',
  selector: 'service=web',
};

function argumentsOf({ parameters }: (typeof templates)[number]): readonly string[] {
  return Object.entries(parameters).flatMap(([key, { default: value }]) =>
    value === undefined ? [`${key}=${required[key] ?? assert.fail(key)}`] : [],
  );
}

const contents = (cli: CommandLine) =>
  cli.write((draft) =>
    (['Tier', 'GlobalNetworkPolicy', 'GlobalNetworkSet'] as const).flatMap((kind) => [
      ...draft.entries(kind),
    ]),
  );

for (const template of templates) {
  const { name } = template;
  const args = argumentsOf(template);
  test(`template ${name}: show prints what apply writes, once, and rm removes it`, async () => {
    using cli = startCommandLine();
    await cli.ok(words('policy allow --from service=b --to service=a'));
    const before = await contents(cli);
    const shown = await cli.ok(['policy', 'template', 'show', name, ...args]);
    const apply = ['policy', 'template', 'apply', name, ...args];
    assert.equal(await cli.ok([...apply, '-o', 'yaml']), shown);
    assert.ok((await cli.ok([...apply, '--dry-run'])).startsWith(shown));
    assert.deepEqual(await contents(cli), before, 'nothing is written yet');
    const applied = await cli.ok(apply);
    assert.ok(applied.startsWith(shown));
    assert.doesNotMatch(applied, /\$/, 'every parameter has a value');
    const written = await contents(cli);
    assert.doesNotMatch(await cli.ok(apply), / (created|changed)$/m);
    assert.doesNotMatch(await cli.ok(['apply', '-f', '-'], shown), / (created|changed)$/m);
    assert.deepEqual(await contents(cli), written);
    // With other parameters the same resources change.
    assert.match(await cli.ok([...apply, 'order=7']), / changed$/m);
    assert.match(await cli.ok(words('policy ls')), / 7 /);
    assert.equal((await contents(cli)).length, written.length);
    const [policy = ''] =
      (await cli.ok(words('policy ls'))).match(new RegExp(`^${name}\\S*`, 'm')) ?? [];
    await cli.ok(['policy', 'rm', policy]);
    assert.deepEqual(await contents(cli), before);
  });

  test(`template ${name} may be applied several times, by names`, async () => {
    using cli = startCommandLine();
    const before = await contents(cli);
    for (const chosen of ['one', 'two'])
      await cli.ok(['policy', 'template', 'apply', name, ...args, `name=${chosen}`]);
    await cli.ok(words('policy rm one'));
    assert.match(await cli.ok(words('policy show two')), /^two\n/);
    await cli.ok(words('policy rm two'));
    assert.deepEqual(await contents(cli), before);
  });
}

test('a tier of a template stays while it has a policy of the user', async () => {
  using cli = startCommandLine();
  await cli.ok(words('policy template apply no-lan'));
  await cli.ok(words('policy deny --from service=a --to 10.0.0.1 --tier no-lan --name mine'));
  assert.doesNotMatch(await cli.ok(words('policy rm no-lan')), /Tier/);
  assert.match(await cli.ok(words('policy rm mine')), /^GlobalNetworkPolicy mine deleted$/m);
});

test('a template does not replace a policy of a command or of another template', async () => {
  using cli = startCommandLine();
  await cli.ok(words('policy isolate service=a --name dns-only'));
  const { status, error } = await cli.run(words('policy template apply dns-only'));
  assert.equal(status, 1);
  assert.match(
    error,
    /^calico-cnm: GlobalNetworkPolicy dns-only already exists with other rules \(/,
  );
  await cli.ok(words('policy template apply no-lan name=x'));
  const other = await cli.run(words('policy template apply internet-only name=x'));
  assert.match(
    other.error,
    /^calico-cnm: GlobalNetworkSet x-lan already exists with other rules \(/,
  );
});
