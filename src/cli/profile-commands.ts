import type { Command } from 'commander';
import type { Draft } from '../datastore/writer.ts';
import { CalicoError } from '../errors/error.ts';
import { dockerNameOf, resourceNameFor, tagFor } from '../model/names.ts';
import type { PolicyRule } from '../model/policy-rule.ts';
import { profileTags, type Profile } from '../model/profile.ts';
import { parseRuleWords, ruleWords } from '../profiles/rule-words.ts';
import type { CliContext } from './context.ts';

/**
 * `profile …`: Profiles by words. `calico-cnm profile web rule add inbound allow tcp from tag other to ports 80`;
 * names and tags are Docker's.
 */
export function addProfileCommands(program: Command, context: CliContext): void {
  program
    .command('profile <words...>')
    .description(
      'add|remove|show NAME; NAME tag add|remove|show [TAG]; NAME rule show; NAME rule add|remove inbound|outbound [--at N] RULE',
    )
    .option('--at <number>', 'place of the rule, from 1')
    .addHelpText('after', help)
    .action(async (words: readonly string[], { at }: { readonly at?: string }) => {
      const plan = planOf(words, { at: parsePlace(at), stamp: context.stamp });
      context.out(await context.withStore(({ write }) => write(plan)));
    });
}

const help = `
  profile add db                                   a Profile with its own tag, in from it, out to everywhere
  profile show [db]                                tags and rules, numbered
  profile db tag add legacy                        its containers carry one more tag
  profile db rule add inbound allow tcp from tag web to ports 5432
  profile db rule add --at 1 inbound deny from cidr 10.9.0.0/16
  profile db rule remove inbound --at 1            or by the words of the rule
  profile remove db`;

interface PlanOptions {
  readonly at: number | undefined;
  readonly stamp: CliContext['stamp'];
}

/** A change of the datastore that answers what to print. */
type Plan = (draft: Draft) => string;

function planOf(words: readonly string[], options: PlanOptions): Plan {
  const [first = '', second, third = '', ...rest] = words;
  if (first === 'add' && second !== undefined) return (draft) => addProfile(draft, second, options);
  if (first === 'remove' && second !== undefined) return (draft) => removeProfile(draft, second);
  if (first === 'show') return (draft) => showProfiles(draft, second);
  if (second === 'tag' && (third === 'add' || third === 'remove' || third === 'show')) {
    return (draft) => changeTags(draft, first, { verb: third, tags: rest });
  }
  if (second === 'rule' && third === 'show') return (draft) => showProfiles(draft, first);
  if (second === 'rule' && (third === 'add' || third === 'remove')) {
    return (draft) => changeRules(draft, first, { verb: third, words: rest, at: options.at });
  }
  throw new CalicoError('cli/bad-argument', {
    what: `profile ${words.join(' ')}`,
    why: 'is not understood; see calico-cnm profile --help',
  });
}

function addProfile(draft: Draft, dockerName: string, { stamp }: PlanOptions): string {
  const name = resourceNameFor(dockerName);
  if (draft.get('Profile', name) !== undefined) {
    throw new CalicoError('datastore/exists', { kind: 'Profile', name: dockerName });
  }
  const tag = tagFor(dockerName);
  const profile: Profile = {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    spec: {
      labelsToApply: { [tag]: '' },
      ingress: [{ action: 'Allow', source: { selector: `has(${tag})` } }],
      egress: [{ action: 'Allow' }],
    },
  };
  draft.put('Profile', name, stamp(profile));
  return `Profile ${dockerName} created\n`;
}

function removeProfile(draft: Draft, dockerName: string): string {
  const name = existing(draft, dockerName).metadata.name;
  for (const [, { spec }] of draft.entries('WorkloadEndpoint')) {
    if (spec.profiles?.includes(name) === true) {
      throw new CalicoError('cli/bad-argument', {
        what: `Profile ${dockerName}`,
        why: `is used by container ${spec.workload ?? spec.endpoint}; remove that first`,
      });
    }
  }
  draft.remove('Profile', name);
  return `Profile ${dockerName} removed\n`;
}

function showProfiles(draft: Draft, dockerName: string | undefined): string {
  const profiles =
    dockerName === undefined
      ? [...draft.entries('Profile')].map(([, profile]) => profile)
      : [existing(draft, dockerName)];
  return profiles
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
    .map(showProfile)
    .join('\n');
}

function showProfile(profile: Profile): string {
  const { ingress = [], egress = [] } = profile.spec;
  const others = Object.entries(profile.spec.labelsToApply ?? {}).filter(
    ([, value]) => value !== '',
  );
  return [
    `${dockerNameOf(profile.metadata.name)}\n`,
    `  tags: ${profileTags(profile).map(dockerNameOf).join(', ') || '(none)'}\n`,
    ...(others.length === 0
      ? []
      : [`  labels: ${others.map(([key, value]) => `${key}=${value}`).join(', ')}\n`]),
    ...numbered('inbound', ingress),
    ...numbered('outbound', egress),
  ].join('');
}

function numbered(direction: string, rules: readonly PolicyRule[]): readonly string[] {
  const lines = rules.map((rule, index) => `    ${index + 1}  ${ruleWords(rule)}\n`);
  return [`  ${direction}:\n`, ...lines, '    otherwise deny\n'];
}

function changeTags(
  draft: Draft,
  dockerName: string,
  { verb, tags }: { readonly verb: 'add' | 'remove' | 'show'; readonly tags: readonly string[] },
): string {
  const profile = existing(draft, dockerName);
  if (verb === 'show') return `${profileTags(profile).map(dockerNameOf).join('\n')}\n`;
  if (tags.length === 0) {
    throw new CalicoError('cli/bad-argument', { what: `tag ${verb}`, why: 'needs a tag' });
  }
  const labelsToApply = { ...profile.spec.labelsToApply };
  for (const tag of tags) {
    if (verb === 'add') labelsToApply[tagFor(tag)] = '';
    else if (labelsToApply[tagFor(tag)] === '') delete labelsToApply[tagFor(tag)];
    else throw new CalicoError('datastore/not-found', { kind: 'tag', name: tag });
  }
  put(draft, { ...profile, spec: { ...profile.spec, labelsToApply } });
  return `Profile ${dockerName}: tag ${tags.join(', ')} ${verb === 'add' ? 'added' : 'removed'}\n`;
}

function changeRules(
  draft: Draft,
  dockerName: string,
  change: {
    readonly verb: 'add' | 'remove';
    readonly words: readonly string[];
    readonly at: number | undefined;
  },
): string {
  const { verb, at } = change;
  const [direction = '', ...words] = change.words;
  const field =
    direction === 'inbound' ? 'ingress' : direction === 'outbound' ? 'egress' : undefined;
  if (field === undefined) {
    throw new CalicoError('cli/bad-argument', {
      what: `"${direction}"`,
      why: 'must be inbound or outbound',
    });
  }
  const profile = existing(draft, dockerName);
  const rules = profile.spec[field] ?? [];
  const changed =
    verb === 'add'
      ? rules.toSpliced((at ?? rules.length + 1) - 1, 0, parseRuleWords(words))
      : rules.toSpliced(indexOfRule(rules, words, at), 1);
  put(draft, { ...profile, spec: { ...profile.spec, [field]: changed } });
  return showProfile({ ...profile, spec: { ...profile.spec, [field]: changed } });
}

function indexOfRule(
  rules: readonly PolicyRule[],
  words: readonly string[],
  at: number | undefined,
): number {
  const wanted = words.length === 0 ? undefined : ruleWords(parseRuleWords(words));
  const index = at === undefined ? rules.findIndex((rule) => ruleWords(rule) === wanted) : at - 1;
  if (rules[index] !== undefined) return index;
  const name = at === undefined ? (wanted ?? 'without --at or words') : `number ${at}`;
  throw new CalicoError('datastore/not-found', { kind: 'rule', name });
}

function existing(draft: Draft, dockerName: string): Profile {
  const profile =
    draft.get('Profile', resourceNameFor(dockerName)) ?? draft.get('Profile', dockerName);
  if (profile !== undefined) return profile;
  throw new CalicoError('datastore/not-found', { kind: 'Profile', name: dockerName });
}

function put(draft: Draft, profile: Profile): void {
  draft.put('Profile', profile.metadata.name, profile);
}

function parsePlace(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const place = Number(text);
  if (Number.isInteger(place) && place >= 1) return place;
  throw new CalicoError('cli/bad-argument', { what: `--at ${text}`, why: 'must be 1 or more' });
}
