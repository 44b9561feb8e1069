import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startCommandLine, type CommandLine } from '../command-line.fixture.ts';

async function profiles(...names: readonly string[]): Promise<CommandLine> {
  const cli = startCommandLine();
  for (const name of names) await cli.ok(['profile', 'add', name]);
  return cli;
}

function words(text: string): readonly string[] {
  return text.split(' ');
}

test('a rule is appended or inserted at a position, and removed by position or expression', async () => {
  using cli = await profiles('web');
  const rules = async () =>
    (await cli.ok(words('profile web rule show')))
      .split('\n')
      .filter((line) => /^ {4}\d/.test(line))
      .map((line) => line.trim());
  await cli.ok(words('profile web rule add inbound allow tcp from cidr 10.0.0.0/8 to ports 80'));
  await cli.ok(words('profile web rule add inbound --at 1 deny from cidr 10.9.0.0/16'));
  assert.deepEqual(await rules(), [
    '1  deny from cidr 10.9.0.0/16',
    '2  allow from tag web',
    '3  allow tcp from cidr 10.0.0.0/8 to ports 80',
    '1  allow',
  ]);
  await cli.ok(words('profile web rule remove inbound allow from tag web'));
  await cli.ok(words('profile web rule remove inbound --at 1 deny from cidr 10.9.0.0/16'));
  await cli.ok(words('profile web rule remove outbound --at 1'));
  assert.deepEqual(await rules(), ['1  allow tcp from cidr 10.0.0.0/8 to ports 80']);
});

test('rule update accepts the output of rule json and replaces all rules', async () => {
  using cli = await profiles('web', 'other');
  await cli.ok(words('profile web rule add inbound allow icmp type 8 from tag other'));
  const rules = await cli.ok(words('profile web rule json'));
  await cli.ok(words('profile other rule update'), rules);
  assert.equal(
    await cli.ok(words('profile other rule show')),
    await cli.ok(words('profile web rule show')),
  );
  await cli.ok(words('profile other rule update'), '{"egress": [{"action": "Deny"}]}');
  assert.equal(
    await cli.ok(words('profile other rule show')),
    '  inbound:\n    default: deny\n  outbound:\n    1  deny\n    default: deny\n',
  );
  assert.equal(await cli.ok(words('profile other tag show')), 'other\n');
});

test('names that Docker allows and Calico does not are used unchanged', async () => {
  using cli = await profiles('My_Net.X', 'web');
  await cli.ok(words('profile web rule add inbound allow from tag My_Net.X'));
  const shown = await cli.ok(words('profile My_Net.X show'));
  assert.match(shown, /^My_Net\.X\n {2}tags: My_Net\.X\n/);
  assert.match(await cli.ok(words('profile show web')), / 2 {2}allow from tag My_Net\.X\n/);
  const [line = ''] = (await cli.ok(words('get profile My_Net.X'))).split('\n').slice(1);
  assert.match(line, /^x---4dy-5f-4eet-2e-58 +My_Net\.X +My_Net\.X /);
  assert.equal(
    await cli.ok(words('delete profile My_Net.X')),
    'Profile x---4dy-5f-4eet-2e-58 deleted\n',
  );
});

test('a command without a verb shows the Profile', async () => {
  using cli = await profiles('web', 'other');
  assert.equal(await cli.ok(['profile']), await cli.ok(words('profile show')));
  assert.equal(await cli.ok(words('profile web')), await cli.ok(words('profile web show')));
});

test('a rule is removed by its number', async () => {
  using cli = await profiles('web');
  await cli.ok(words('profile web rule add inbound allow udp'));
  const shown = await cli.ok(words('profile web rule remove inbound 1'));
  assert.match(shown, /inbound:\n {4}1 {2}allow udp\n/);
});

test('a Profile may have the name of a command', async () => {
  using cli = await profiles('add', 'show', 'rule');
  assert.match(await cli.ok(words('profile show show')), /^show\n/);
  assert.match(await cli.ok(words('profile add rule add inbound allow udp')), /2 {2}allow udp/);
  assert.equal(await cli.ok(words('profile rule tag show')), 'rule\n');
});

test('removing a tag prints the rules that still refer to it', async () => {
  using cli = await profiles('web', 'other');
  await cli.ok(words('profile other rule add inbound allow from tag web'));
  assert.equal(
    await cli.ok(words('profile web tag remove web')),
    [
      'Profile web: tag web removed\n',
      'note: no Profile has this tag now; other inbound rule 2 refers to it: allow from tag web\n',
      'note: no Profile has this tag now; web inbound rule 1 refers to it: allow from tag web\n',
    ].join(''),
  );
  assert.match(
    await cli.ok(words('profile show web')),
    / 1 {2}allow from tag web {3}\(no Profile has tag web\)\n/,
  );
  await cli.ok(words('profile other tag add web'));
  assert.doesNotMatch(await cli.ok(words('profile show web')), /no Profile/);
});

test('a Profile in use is removed only with --no-check', async () => {
  using cli = await profiles('web');
  await cli.write((draft) =>
    draft.put('DockerNetwork', 'host-1/n1', {
      id: 'n1',
      node: 'host-1',
      name: 'web',
      ipam: 'calico',
      internal: false,
      ipv4: true,
      ipv6: false,
      subnets: [],
      options: {},
    }),
  );
  for (const command of ['profile remove web', 'delete profile web']) {
    const { status, error } = await cli.run(words(command));
    assert.equal(status, 1);
    assert.match(
      error,
      /^calico-cnm: Profile web is in use by network web of host-1; .*--no-check.*\n$/,
    );
  }
  assert.equal(await cli.ok(words('profile remove web --no-check')), 'Profile web removed\n');
});

for (const [command, message] of [
  [
    'profile web rule add inbound --at 3 allow',
    'calico-cnm: position 3: Profile web has 1 inbound rule',
  ],
  [
    'profile web rule remove inbound --at 2',
    'calico-cnm: position 2: Profile web has 1 inbound rule',
  ],
  [
    'profile web rule remove inbound allow udp',
    'calico-cnm: Profile web: inbound rule "allow udp" does not exist',
  ],
  [
    'profile web rule remove inbound --at 1 allow udp',
    'calico-cnm: Profile web: inbound rule 1 "allow udp" does not exist',
  ],
  [
    'profile web rule remove inbound',
    'calico-cnm: rule remove: needs the position of the rule, or its expression',
  ],
  ['profile web rule add inbound --at 0 allow', 'calico-cnm: position 0: must be 1 or more'],
  ['profile web rule add sideways allow', 'calico-cnm: "sideways": must be inbound or outbound'],
  ['profile web rule add inbound', 'calico-cnm: rule: an action is missing at the end'],
  ['profile web tag add', 'calico-cnm: tag add: needs a tag'],
  ['profile web tag remove db', 'calico-cnm: Profile web: tag db does not exist'],
  [
    'profile web paint',
    'calico-cnm: profile web paint: invalid command; see calico-cnm profile --help',
  ],
  ['profile web rule remove inbound 2', 'calico-cnm: position 2: Profile web has 1 inbound rule'],
  ['profile web rule remove inbound 0', 'calico-cnm: position 0: must be 1 or more'],
  ['profile add', 'calico-cnm: profile add: needs a name'],
  ['profile db', 'calico-cnm: Profile db does not exist'],
  ['profile add web', 'calico-cnm: Profile web already exists'],
  ['profile remove db', 'calico-cnm: Profile db does not exist'],
] as const) {
  test(`"${command}" is rejected on one line`, async () => {
    using cli = await profiles('web');
    const before = await cli.ok(words('profile show --detailed'));
    assert.deepEqual(await cli.run(words(command)), { status: 1, out: '', error: `${message}\n` });
    assert.equal(await cli.ok(words('profile show --detailed')), before);
  });
}

for (const [input, message] of [
  [
    '{"ingress": [{"action": "Permit"}]}',
    'document 1: ingress.0.action: must be one of Allow, Deny, Log, Pass',
  ],
  ['{"ingress": [], "tags": []}', 'Profile web: tags: is not a field; there are ingress, egress'],
  ['{"ingress": [', 'document 1: '],
  ['', 'the input: must be one document of rules'],
  [
    '{"ingress": [{"action": "Allow", "source": {"selector": "has("}}]}',
    'Profile web: spec.ingress.0.source.selector: selector "has(": syntax error at',
  ],
] as const) {
  test(`rule update rejects ${input === '' ? 'nothing' : input}, and changes nothing`, async () => {
    using cli = await profiles('web');
    const before = await cli.ok(words('profile web rule json'));
    const { status, error } = await cli.run(words('profile web rule update'), input);
    assert.equal(status, 1);
    assert.ok(error.startsWith(`calico-cnm: ${message}`), error);
    assert.equal(error.trimEnd().split('\n').length, 1);
    assert.equal(await cli.ok(words('profile web rule json')), before);
  });
}
