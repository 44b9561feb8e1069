import type { Draft } from '../../datastore/writer.ts';
import { namespaceProfile, newProfileSpec } from '../../driver/networks/network-profile.ts';
import { CalicoError } from '../../errors/error.ts';
import { printable } from '../../errors/printable.ts';
import { counted } from '../../model/counted.ts';
import { dockerNameOf, resourceNameFor, tagFor } from '../../model/names.ts';
import { namespaceOfProfile } from '../../model/namespaces.ts';
import type { PolicyRule } from '../../model/policy-rule.ts';
import {
  defaultAllowProfile,
  isDefaultAllow,
  profileProblem,
  profileTags,
  type Profile,
} from '../../model/kinds/profile.ts';
import { formatJson } from '../../model/json.ts';
import { parseRules } from '../../model/user-input.ts';
import { parseRuleExpression, ruleTags, ruleExpression } from './rule-expression.ts';
import { profileText, rulesText } from './profile-text.ts';
import type { Stamp } from '../../model/stamp.ts';
import { checkProfile, rejectIfUsed } from '../resources/resource-plans.ts';

/** Plans of the Profile commands; each returns the text to print. Names are Docker's. */

/**
 * Creates a Profile with the tag of its name; it allows inbound traffic from that tag and all outbound traffic. That of a
 * namespace has only the name of the namespace as a label.
 */
export function addProfile(draft: Draft, dockerName: string, stamp: Stamp): string {
  const name = resourceNameFor(dockerName);
  rejectBuiltIn(name);
  if (draft.get('Profile', name) !== undefined) {
    throw new CalicoError('datastore/exists', { kind: 'Profile', name: dockerName });
  }
  const namespace = namespaceOfProfile(name);
  const profile: Profile = {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    spec: namespace === undefined ? newProfileSpec(dockerName) : namespaceProfile(namespace).spec,
  };
  draft.put('Profile', name, stamp(profile));
  return `Profile ${dockerName} created\n`;
}

/** Deletes a Profile. Throws `cli/profile-in-use` if containers or networks use it, unless `force`. */
export function removeProfile(
  draft: Draft,
  dockerName: string,
  { force }: { readonly force: boolean },
): string {
  const { name } = profileNamed(draft, dockerName).metadata;
  rejectBuiltIn(name);
  if (!force)
    rejectIfUsed(draft, name, 'or use --no-check: all traffic of its containers is then dropped');
  draft.remove('Profile', name);
  return `Profile ${dockerName} removed\n`;
}

export function showProfile(draft: Draft, dockerName: string): string {
  return profileText(draft, profileNamed(draft, dockerName));
}

/** Returns the tags of a Profile, one per line. */
export function showTags(draft: Draft, dockerName: string): string {
  return profileTags(profileNamed(draft, dockerName))
    .map((tag) => `${dockerNameOf(tag)}\n`)
    .join('');
}

export function addTags(draft: Draft, dockerName: string, tags: readonly string[]): string {
  const profile = profileNamed(draft, dockerName);
  const labelsToApply = { ...profile.spec.labelsToApply };
  for (const tag of tags) {
    const present = labelsToApply[tagFor(tag)] ?? '';
    if (present !== '') {
      const why = `is already a label of Profile ${dockerName} with value "${present}"; choose another tag`;
      throw new CalicoError('cli/bad-argument', { what: tag, why });
    }
    labelsToApply[tagFor(tag)] = '';
  }
  put(draft, { ...profile, spec: { ...profile.spec, labelsToApply } });
  return `Profile ${dockerName}: tag ${tags.join(', ')} added\n`;
}

/** Removes tags; also reports rules that refer to a tag that no Profile has now. */
export function removeTags(draft: Draft, dockerName: string, tags: readonly string[]): string {
  const profile = profileNamed(draft, dockerName);
  const labelsToApply = { ...profile.spec.labelsToApply };
  for (const tag of tags) {
    if (labelsToApply[tagFor(tag)] !== '') {
      throw new CalicoError('datastore/not-found', {
        kind: `Profile ${dockerName}: tag`,
        name: tag,
      });
    }
    delete labelsToApply[tagFor(tag)];
  }
  put(draft, { ...profile, spec: { ...profile.spec, labelsToApply } });
  return [
    `Profile ${dockerName}: tag ${tags.join(', ')} removed\n`,
    ...tags.flatMap((tag) => rulesWithoutMatch(draft, tag)),
  ].join('');
}

export function showRules(draft: Draft, dockerName: string): string {
  return rulesText(draft, profileNamed(draft, dockerName));
}

/** Returns both lists of rules as JSON in Calico's format, which `updateRules` accepts. */
export function rulesJson(draft: Draft, dockerName: string): string {
  const { ingress = [], egress = [] } = profileNamed(draft, dockerName).spec;
  return `${JSON.stringify(JSON.parse(formatJson({ ingress, egress })), null, 2)}\n`;
}

/** Replaces both lists of rules with those of a JSON or YAML text; tags and labels stay. */
export function updateRules(draft: Draft, dockerName: string, text: string): string {
  const profile = profileNamed(draft, dockerName);
  const changed = withRules(profile, parseRules(text, dockerName));
  checkProfile(changed);
  put(draft, changed);
  return profileText(draft, changed);
}

/** A change of one list of rules; `at` is the position, starting at 1, if given. */
export interface RuleChange {
  readonly direction: 'inbound' | 'outbound';
  readonly at: number | undefined;
  readonly words: readonly string[];
}

/** Inserts a rule at its position, or appends it. */
export function addRule(draft: Draft, dockerName: string, change: RuleChange): string {
  const profile = profileNamed(draft, dockerName);
  const rule = parseRuleExpression(change.words);
  const rules = rulesOf(profile, change);
  const at = change.at ?? rules.length + 1;
  if (at > rules.length + 1) throw noSuchPosition(dockerName, change, rules.length);
  return changeRules(draft, profile, { ...change, rules: rules.toSpliced(at - 1, 0, rule) });
}

/** Removes the rule at a position, or the rule with this expression; if both are given, they must match. */
export function removeRule(draft: Draft, dockerName: string, change: RuleChange): string {
  const profile = profileNamed(draft, dockerName);
  const rules = rulesOf(profile, change);
  const index = indexOfRule(dockerName, change, rules);
  return changeRules(draft, profile, { ...change, rules: rules.toSpliced(index, 1) });
}

function indexOfRule(dockerName: string, change: RuleChange, rules: readonly PolicyRule[]): number {
  const { at, words, direction } = change;
  if (at === undefined && words.length === 0) {
    const why = 'needs the position of the rule, or its expression';
    throw new CalicoError('cli/bad-argument', { what: 'rule remove', why });
  }
  if (at !== undefined && at > rules.length) throw noSuchPosition(dockerName, change, rules.length);
  const expression = words.length === 0 ? undefined : ruleExpression(parseRuleExpression(words));
  const index =
    at === undefined ? rules.findIndex((rule) => ruleExpression(rule) === expression) : at - 1;
  const found = rules[index];
  if (found !== undefined && (expression === undefined || ruleExpression(found) === expression))
    return index;
  throw new CalicoError('datastore/not-found', {
    kind: `Profile ${dockerName}: ${direction} rule${at === undefined ? '' : ` ${at}`}`,
    name: `"${expression ?? ''}"`,
  });
}

function noSuchPosition(dockerName: string, { direction, at }: RuleChange, count: number) {
  return new CalicoError('cli/bad-argument', {
    what: `position ${at ?? ''}`,
    why: `Profile ${dockerName} has ${counted(count, `${direction} rule`)}`,
  });
}

function rulesOf(profile: Profile, { direction }: RuleChange): readonly PolicyRule[] {
  return (direction === 'inbound' ? profile.spec.ingress : profile.spec.egress) ?? [];
}

function changeRules(
  draft: Draft,
  profile: Profile,
  change: Pick<RuleChange, 'direction'> & { readonly rules: readonly PolicyRule[] },
): string {
  const rules = [...change.rules];
  const changed = withRules(
    profile,
    change.direction === 'inbound' ? { ingress: rules } : { egress: rules },
  );
  checkAsTyped(changed);
  put(draft, changed);
  return profileText(draft, changed);
}

/** Like `checkProfile`, with errors in the terms of `profile rule add`. */
function checkAsTyped(profile: Profile): void {
  const problem = profileProblem(profile);
  if (problem === undefined) return;
  const what = `Profile ${dockerNameOf(profile.metadata.name)}`;
  const [, direction, index, field = ''] = problem.field.split(/^spec\.(\w+)\.(\d+)\.?/);
  const rule = `${direction === 'ingress' ? 'inbound' : 'outbound'} rule ${Number(index) + 1}`;
  const words = field.replace(/^source\./, 'from ').replace(/^destination\./, 'to ');
  const why = [rule, ...(words === '' ? [] : [words]), problem.why].join(': ');
  throw new CalicoError('cli/bad-argument', { what, why });
}

function withRules(profile: Profile, rules: Pick<Profile['spec'], 'ingress' | 'egress'>): Profile {
  return { ...profile, spec: { ...profile.spec, ...rules } };
}

/** Returns a note for every rule that refers to a tag, if no Profile has the tag. */
function rulesWithoutMatch(draft: Draft, dockerTag: string): readonly string[] {
  const tag = tagFor(dockerTag);
  const profiles = [...draft.entries('Profile')].map(([, profile]) => profile);
  if (profiles.some((profile) => profileTags(profile).includes(tag))) return [];
  return profiles.flatMap(({ metadata, spec }) =>
    (['ingress', 'egress'] as const).flatMap((field) =>
      (spec[field] ?? []).flatMap((rule, index) => {
        if (!ruleTags(rule).includes(tag)) return [];
        const direction = field === 'ingress' ? 'inbound' : 'outbound';
        const name = dockerNameOf(metadata.name);
        return [
          `note: no Profile has this tag now; ${printable(name)} ${direction} rule ${index + 1} refers to it: ${printable(ruleExpression(rule))}\n`,
        ];
      }),
    ),
  );
}

/** Returns the Profile with a Docker name or a stored name. Throws `datastore/not-found`. */
export function profileNamed(draft: Draft, dockerName: string): Profile {
  const profile =
    draft.get('Profile', resourceNameFor(dockerName)) ?? draft.get('Profile', dockerName);
  if (isDefaultAllow(dockerName)) return defaultAllowProfile;
  if (profile !== undefined) return profile;
  throw new CalicoError('datastore/not-found', { kind: 'Profile', name: dockerName });
}

function put(draft: Draft, profile: Profile): void {
  rejectBuiltIn(profile.metadata.name);
  draft.put('Profile', profile.metadata.name, profile);
}

function rejectBuiltIn(profile: string): void {
  if (!isDefaultAllow(profile)) return;
  const why = 'is built in and cannot be changed';
  throw new CalicoError('cli/bad-argument', { what: `Profile ${profile}`, why });
}
