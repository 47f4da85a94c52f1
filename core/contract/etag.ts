// Entity tags in conditional requests (RFC 9110). Pure.

/** Whether If-None-Match names the tag: a list of tags, weak ones included, or `*`. Where there is no such field, nothing is named. */
export const namesTag = (ifNoneMatch: string | null | undefined, etag: string): boolean =>
  !!ifNoneMatch && ifNoneMatch.split(',').some((tag) => [etag, '*'].includes(tag.trim().replace(/^W\//, '')));
