import { readFileSync } from 'node:fs';
import { CalicoError, describe, hasErrorCode } from '../errors/error.ts';
import {
  retiredSettings,
  settingMeanings,
  settingsSchema,
  type SettingKey,
  type Settings,
} from './settings.ts';

/** Parsed settings and the origin of each: `default`, `the environment`, or the path of the file. */
export interface LoadedSettings {
  readonly settings: Settings;
  readonly originOf: (key: SettingKey) => string;
  /** Settings without effect, one sentence each. */
  readonly notes: readonly string[];
}

/** Settings file of an installation, in the format of a systemd EnvironmentFile. */
export const settingsFile = '/etc/calico/calico-cnm.env';

type Environment = Readonly<Record<string, string | undefined>>;

interface Given {
  readonly name: string;
  readonly text: string;
  readonly origin: string;
}

/**
 * Returns every setting, looked up by its current and its former name: the environment takes precedence over the
 * settings file, the file over the default. An empty variable counts as unset, as in systemd and Compose files. Throws
 * `config/…` with name, value and origin.
 */
export function loadSettings(environment: Environment, file: string): LoadedSettings {
  const fromFile = readSettingsFile(file);
  const given = new Map<string, Given>();
  for (const [key, schema] of Object.entries(settingsSchema.shape)) {
    const { name = key, formerName } = settingMeanings.get(schema) ?? {};
    const names = [name, ...(formerName === undefined ? [] : [formerName])];
    const found = [
      ...names.map((one) => givenBy(one, environment[one], 'the environment')),
      ...names.map((one) => givenBy(one, fromFile.get(one), file)),
    ].find((one) => one !== undefined);
    if (found !== undefined) given.set(key, found);
  }
  const result = settingsSchema.safeParse(
    Object.fromEntries([...given].map(([key, { text }]) => [key, text])),
  );
  if (!result.success) {
    const { path, message } = result.error.issues[0] ?? { path: [], message: 'is not valid' };
    const culprit = given.get(String(path[0])) ?? {
      name: String(path[0]),
      text: '',
      origin: 'default',
    };
    throw new CalicoError('config/invalid', {
      name: culprit.name,
      value: culprit.text,
      source: culprit.origin,
      why: message,
    });
  }
  checkTogether(result.data);
  const origins = new Map([...given].map(([key, { origin }]) => [key, origin]));
  return {
    settings: result.data,
    originOf: (key) => origins.get(key) ?? 'default',
    notes: [
      ...withoutEffect(Object.keys(environment), 'the environment'),
      ...withoutEffect([...fromFile.keys()], file),
    ],
  };
}

function givenBy(name: string, text: string | undefined, origin: string): Given | undefined {
  return text === undefined || text === '' ? undefined : { name, text, origin };
}

function withoutEffect(names: readonly string[], origin: string): readonly string[] {
  return names.flatMap((name) => {
    const why = retiredSettings.get(name);
    return why === undefined ? [] : [`${name} (from ${origin}) has no effect: ${why}`];
  });
}

function checkTogether(settings: Settings): void {
  if ((settings.etcdCertFile === undefined) !== (settings.etcdKeyFile === undefined)) {
    throw new CalicoError('config/incomplete', {
      why: 'ETCD_CERT_FILE and ETCD_KEY_FILE must be set together',
    });
  }
  if ((settings.etcdUsername === undefined) !== (settings.etcdPassword === undefined)) {
    throw new CalicoError('config/incomplete', {
      why: 'ETCD_USERNAME and ETCD_PASSWORD must be set together',
    });
  }
}

/** Reads `NAME=value` lines; ignores lines that begin with `#`, removes quotes around values. Empty if no file exists. */
function readSettingsFile(file: string): ReadonlyMap<string, string> {
  let content: string;
  try {
    content = readFileSync(file, 'utf8');
  } catch (error) {
    if (hasErrorCode(error, 'ENOENT')) return new Map();
    throw new CalicoError('config/unreadable', { file, why: describe(error) }, { cause: error });
  }
  const values = new Map<string, string>();
  for (const [index, raw] of content.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const [, name, value] = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(line) ?? [];
    if (name === undefined || value === undefined) {
      throw new CalicoError('config/bad-line', { file, line: index + 1, text: line });
    }
    values.set(name, value.replace(/^(["'])(.*)\1$/, '$2'));
  }
  return values;
}
