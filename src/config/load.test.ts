import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { loadSettings } from './load.ts';
import { retiredSettings, settingMeanings, settingsSchema, type SettingKey } from './settings.ts';

const folder = mkdtempSync(join(tmpdir(), 'calico-config-'));
after(() => rmSync(folder, { recursive: true }));
const noFile = join(folder, 'none.env');

function fileWith(content: string): string {
  const file = join(folder, 'calico-cnm.env');
  writeFileSync(file, content);
  return file;
}

/** Of every setting: two texts that it takes with what they mean, and one that it refuses. */
interface Example {
  readonly taken: readonly (readonly [text: string, value: unknown])[];
  readonly refused?: readonly (readonly [text: string, why: RegExp])[];
}

const anyText = (a: string, b: string): Example => ({
  taken: [
    [a, a],
    [b, b],
  ],
});
const words = (...list: readonly string[]): Example => ({
  taken: [
    ...list.map((word) => [word, word] as const),
    ...list.map((word) => [word.toUpperCase(), word] as const),
  ],
  refused: [['sometimes', new RegExp(`^must be one of ${list.join(', ')}$`)]],
});
const flag: Example = {
  taken: [
    ...['true', '1', 'Yes', 'ON'].map((text) => [text, true] as const),
    ...['false', '0', 'no', 'Off'].map((text) => [text, false] as const),
  ],
  refused: [['perhaps', /^must be true or false$/]],
};
const whole = (least: number, most: number): Example => ({
  taken: [
    [String(least), least],
    [String(most), most],
  ],
  refused: [String(least - 1), String(most + 1), `${least}.5`, 'many', '0x20'].map(
    (text) => [text, new RegExp(`^must be an integer from ${least} to ${most}$`)] as const,
  ),
});
const network: Example = {
  taken: [
    ['10.99.0.0/16', '10.99.0.0/16'],
    ['FD00::/48', 'fd00::/48'],
  ],
  refused: [
    ['10.99.0.1/16', /host bits/],
    ['10.99', /is not a CIDR/],
  ],
};

const detection: Example = {
  taken: [
    ['can-reach=example.com', { by: 'can-reach', destination: 'example.com' }],
    ['cidr=10.0.0.0/8, fd00::/8', { by: 'cidr', cidrs: ['10.0.0.0/8', 'fd00::/8'] }],
    ['interface=eth.*,ens3', { by: 'interface', pattern: /(?:eth.*)|(?:ens3)/ }],
    ['skip-interface=wg', { by: 'skip-interface', pattern: /(?:wg)/ }],
  ],
  refused: [
    ['first', /must be first-found, can-reach=HOST/],
    ['can-reach=', /must be first-found, can-reach=HOST/],
    ['kubernetes-internal-ip', /must be first-found, can-reach=HOST/],
    ['interface=(', /regular expression/i],
    ['cidr=10.0.0.1/8', /host bits/],
  ],
};

const examples: { readonly [K in SettingKey]: Example } = {
  nodeName: {
    taken: [
      ['host-1', 'host-1'],
      ['host-1.example.com', 'host-1.example.com'],
    ],
    refused: [
      ['Host', /lower-case DNS name/],
      ['a_b', /lower-case DNS name/],
    ],
  },
  labels: {
    taken: [
      ['*', ['*']],
      ['com.example.*, role', ['com.example.*', 'role']],
    ],
    refused: [
      ['a,,b', /must be a list of label keys/],
      ['*.role', /"\*\.role" is none/],
    ],
  },
  dnsTrustedServers: {
    taken: [
      ['192.0.2.53', ['192.0.2.53']],
      ['192.0.2.53, 2001:db8::53', ['192.0.2.53', '2001:db8::53']],
    ],
    refused: [['dns.example.com', /"dns\.example\.com" is none/]],
  },
  nodeNameFile: anyText('/tmp/a', '/tmp/b'),
  ip: {
    taken: [
      ['autodetect', 'autodetect'],
      ['none', 'none'],
      ['172.16.0.11/24', { address: '172.16.0.11', prefixLength: 24 }],
      ['172.16.0.11', { address: '172.16.0.11', prefixLength: undefined }],
    ],
    refused: [
      ['fd00::1/64', /must be autodetect, none, or an IPv4 address/],
      ['host-1', /must be autodetect, none, or an IPv4 address/],
    ],
  },
  ip6: {
    taken: [
      ['none', 'none'],
      ['FD00::1/64', { address: 'fd00::1', prefixLength: 64 }],
    ],
    refused: [['172.16.0.11/24', /must be autodetect, none, or an IPv6 address/]],
  },
  ipDetection: detection,
  ip6Detection: detection,
  etcdEndpoints: {
    taken: [
      ['http://10.0.0.1:2379', ['http://10.0.0.1:2379']],
      ['https://a:2379, https://b:2379', ['https://a:2379', 'https://b:2379']],
    ],
    refused: [
      ['10.0.0.1:2379', /must be a list such as/],
      [',', /must be a list such as/],
    ],
  },
  etcdCaFile: anyText('/ca.pem', '/other.pem'),
  etcdCertFile: anyText('/cert.pem', '/other.pem'),
  etcdKeyFile: anyText('/key.pem', '/other.pem'),
  etcdUsername: anyText('calico', 'other'),
  etcdPassword: anyText('secret', 'a=b #c'),
  datastoreFile: anyText('/tmp/a.db', '/tmp/b.db'),
  snapshotFile: anyText('/tmp/a.json', '/tmp/b.json'),
  dockerHost: {
    taken: [
      ['unix:///run/docker.sock', 'unix:///run/docker.sock'],
      ['tcp://127.0.0.1:2375', 'tcp://127.0.0.1:2375'],
    ],
    refused: [['/run/docker.sock', /must be an address such as/]],
  },
  pluginDirectory: anyText('/run/a', '/run/b'),
  managedSocket: anyText('/run/a.sock', '/run/b.sock'),
  scope: words('local', 'global'),
  controlSocket: anyText('/run/a.sock', '/run/b.sock'),
  logLevel: words('error', 'warn', 'info', 'debug'),
  mtuBytes: whole(576, 65535),
  interfacePrefix: {
    taken: [
      ['cali', 'cali'],
      ['net', 'net'],
    ],
    refused: [
      ['0eth', /interface name prefix/],
      ['much-too-long', /interface name prefix/],
    ],
  },
  iptablesBackend: words('auto', 'legacy', 'nft'),
  ipv6: words('auto', 'off'),
  endpointToHostAction: words('Return', 'Accept', 'Drop'),
  filterDenyAction: words('Drop', 'Reject'),
  labelEndpoints: flag,
  startFailedContainers: flag,
  createProfiles: flag,
  removedRuleFlows: words('keep', 'end'),
  bgp: {
    taken: [
      ['auto', 'auto'],
      ['OFF', 'off'],
    ],
    refused: [['on', /must be one of auto, off/]],
  },
  bgpPasswordDirectory: anyText('/etc/a', '/etc/b'),
  namesAcrossHosts: flag,
  noDefaultPools: flag,
  ipv4PoolCidr: network,
  ipv4PoolBlockSize: whole(20, 32),
  ipv4PoolNatOutgoing: flag,
  ipv4PoolNodeSelector: anyText('all()', 'zone == "a"'),
  ipv6PoolCidr: network,
  ipv6PoolBlockSize: whole(116, 128),
  ipv6PoolNatOutgoing: flag,
  ipv6PoolNodeSelector: anyText('all()', 'zone == "a"'),
};

/** What must be set along with a setting. */
const companions: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  ETCD_CERT_FILE: { ETCD_KEY_FILE: '/key.pem' },
  ETCD_KEY_FILE: { ETCD_CERT_FILE: '/cert.pem' },
  ETCD_USERNAME: { ETCD_PASSWORD: 'secret' },
  ETCD_PASSWORD: { ETCD_USERNAME: 'calico' },
};

/** Two texts with different meanings, to see which one wins. */
function differing(taken: Example['taken']) {
  const [first = assert.fail(), ...others] = taken;
  const second = others.find(([, value]) => value !== first[1]);
  return [first, second ?? assert.fail()] as const;
}

const exampleOf = new Map(Object.entries(examples));

for (const [key, schema] of Object.entries(settingsSchema.shape)) {
  const { name, formerName } = settingMeanings.get(schema) ?? assert.fail(`${key} has no name`);
  const { taken, refused = [] } = exampleOf.get(key) ?? assert.fail(`${key} has no example`);
  const valueOf = (environment: Readonly<Record<string, string>>, file = noFile) => {
    const loaded = loadSettings({ ...companions[name], ...environment }, file);
    const values = new Map<string, unknown>(Object.entries(loaded.settings));
    return { value: values.get(key), origin: loaded.originOf(settingsSchema.keyof().parse(key)) };
  };
  const [first, second] = differing(taken);
  const fromEnvironment = (value: unknown) => ({ value, origin: 'the environment' });

  test(`${name} is read from environment and file; the environment wins, empty is unset`, () => {
    for (const [text, value] of taken) {
      assert.deepEqual(valueOf({ [name]: text }), fromEnvironment(value));
    }
    const file = fileWith(`# a comment\n\n${name}=${first[0]}\n`);
    assert.deepEqual(valueOf({}, file), { value: first[1], origin: file });
    assert.deepEqual(valueOf({ [name]: second[0] }, file), fromEnvironment(second[1]));
    assert.deepEqual(valueOf({ [name]: '' }, file), { value: first[1], origin: file });
    if (companions[name] === undefined) assert.equal(valueOf({ [name]: '' }).origin, 'default');
  });

  if (formerName !== undefined) {
    test(`${formerName} is ${name} where that is not set`, () => {
      assert.deepEqual(valueOf({ [formerName]: first[0] }), fromEnvironment(first[1]));
      const both = { [formerName]: first[0], [name]: second[0] };
      assert.deepEqual(valueOf(both), fromEnvironment(second[1]));
      const file = fileWith(`${name}=${second[0]}\n`);
      assert.deepEqual(valueOf({ [formerName]: first[0] }, file), fromEnvironment(first[1]));
    });
  }

  for (const [text, why] of refused) {
    test(`${name}="${text}" is refused with name, value and origin`, () => {
      const file = fileWith(`${name}=${text}`);
      for (const [environment, origin, path] of [
        [{ [name]: text }, 'the environment', noFile],
        [{}, file, file],
      ] as const) {
        assert.throws(
          () => loadSettings(environment, path),
          (error: Error) => {
            const start = `${name}="${text}" (from ${origin}): `;
            assert.ok(error.message.startsWith(start), error.message);
            assert.match(error.message.slice(start.length), why);
            assert.ok(!error.message.includes('\n'));
            return true;
          },
        );
      }
    });
  }
}

test('what the plugin of 2019 knew and nobody needs any more is said, and does not stop the start', () => {
  for (const name of retiredSettings.keys()) {
    const { notes } = loadSettings({ [name]: 'x' }, fileWith(`${name}=y\n`));
    assert.equal(notes.length, 2);
    for (const note of notes)
      assert.match(note, new RegExp(`^${name} \\(from .*\\) has no effect: `));
  }
  assert.deepEqual(loadSettings({ CALICO_LOG_LEVEL: 'info' }, noFile).notes, []);
});

test('nothing set is a start with the datastore file and every default', () => {
  const { settings, originOf } = loadSettings({}, noFile);
  assert.equal(settings.etcdEndpoints, undefined);
  assert.equal(settings.datastoreFile, '/var/lib/calico/calico.db');
  assert.equal(originOf('datastoreFile'), 'default');
});

for (const [one, other] of [
  ['ETCD_CERT_FILE', 'ETCD_KEY_FILE'],
  ['ETCD_USERNAME', 'ETCD_PASSWORD'],
] as const) {
  test(`${one} and ${other} are set both, or neither`, () => {
    const together = new RegExp(`^${one} and ${other} must be set together$`);
    for (const name of [one, other]) {
      assert.throws(() => loadSettings({ [name]: 'x' }, noFile), { message: together });
    }
    loadSettings({ [one]: 'x', [other]: 'y' }, noFile);
  });
}

test('quotes around a value in the file are taken off, as systemd does', () => {
  const file = fileWith('NODENAME="host-1"\nCALICO_LOG_LEVEL=\'debug\'\n');
  const { settings } = loadSettings({}, file);
  assert.deepEqual([settings.nodeName, settings.logLevel], ['host-1', 'debug']);
});

test('a line of the file that is none is refused with its number', () => {
  const file = fileWith('NODENAME=host-1\nexport A=b\n');
  assert.throws(() => loadSettings({}, file), {
    message: `${file}, line 2: "export A=b" is not NAME=value`,
  });
});

test('a file that cannot be read is refused; one that is missing is no file', () => {
  assert.throws(() => loadSettings({}, folder), /^CalicoError: cannot read settings file .*EISDIR/);
  loadSettings({}, noFile);
});
