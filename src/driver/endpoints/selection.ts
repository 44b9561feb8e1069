import { CalicoError, describe } from '../../errors/error.ts';
import { extrasKeys, isExtrasKey } from './extra-addresses.ts';
import { parseLabel, parseProfiles } from '../networks/network-options.ts';

/** Reports whether a label of a container selects Profiles or labels. */
export function isPolicyLabel(key: string): boolean {
  return key.startsWith(prefix);
}

/** The selection of a container, or of its connection to a network. Profile names are as given. */
export interface Selection {
  readonly profiles: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

export const emptySelection: Selection = { profiles: [], labels: {} };

const prefix = 'org.projectcalico.';
const labelPrefix = 'label.';
const profileKeys = new Set(['profile', 'profiles']);

/** The keys of an endpoint's `driver-opt`, for messages and the documentation. */
export const endpointOptionKeys: readonly string[] = [
  `${prefix}profile`,
  `${prefix}${labelPrefix}KEY`,
  ...extrasKeys,
];

/**
 * Parses the selection of `docker run --network name=N,driver-opt=KEY=VALUE` (or `docker network connect
 * --driver-opt`). Docker's own keys are ignored; any other unknown key is rejected, because Docker shows that error to
 * the user. Newer docker clients send keys and values in lower case.
 */
export function selectionFromOptions(options: Readonly<Record<string, unknown>>): Selection {
  const given = Object.entries(options).filter(
    ([key]) => !key.startsWith('com.docker.') && !isExtrasKey(key),
  );
  return given.reduce((selection, [key, value]) => {
    const text = String(value);
    try {
      const next = choose(selection, key.replace(prefix, ''), text);
      if (next !== undefined) return next;
    } catch (error) {
      throw new CalicoError(
        'driver/bad-endpoint-option',
        { key, value: text, why: describe(error) },
        { cause: error },
      );
    }
    throw new CalicoError('driver/unknown-endpoint-option', {
      key,
      known: endpointOptionKeys.join(', '),
    });
  }, emptySelection);
}

/**
 * Returns the selection of a container's labels, of which `isTaken` may exclude some, and their problems. An invalid label is skipped and reported, because
 * Docker can no longer reject the container by then.
 */
export function selectionFromLabels(
  labels: Readonly<Record<string, string>>,
  isTaken: (key: string) => boolean,
): {
  readonly selection: Selection;
  readonly problems: readonly string[];
} {
  const problems: string[] = [];
  let selection = emptySelection;
  for (const [key, value] of Object.entries(labels)) {
    if (!isPolicyLabel(key)) continue;
    if (key.startsWith(`${prefix}${labelPrefix}`) && !isTaken(key)) continue;
    try {
      selection = choose(selection, key.slice(prefix.length), value) ?? selection;
    } catch (error) {
      problems.push(`label "${key}=${value}": ${describe(error)}`);
    }
  }
  return { selection, problems };
}

/** Merges two selections; the Profiles of the first come first, its labels win. */
export function mergeSelections(first: Selection, second: Selection): Selection {
  return {
    profiles: [...new Set([...first.profiles, ...second.profiles])],
    labels: { ...second.labels, ...first.labels },
  };
}

function choose(selection: Selection, key: string, value: string): Selection | undefined {
  if (profileKeys.has(key)) {
    return mergeSelections(selection, { profiles: parseProfiles(value), labels: {} });
  }
  if (!key.startsWith(labelPrefix)) return undefined;
  return mergeSelections(
    { profiles: [], labels: parseLabel(key.slice(labelPrefix.length), value) },
    selection,
  );
}
