/* report.h - a step's numbers as one JSON object with flat keys ("gac.cosine"), the same wherever a
 * step is reported. A number that does not exist (the cosine of the first step) is null. */
#ifndef TRAINER_LEARN_REPORT_H
#define TRAINER_LEARN_REPORT_H

#include "base/buf.h"
#include "trainer/learn/step.h"

void report_json(struct buf *out, const struct step_report *r);

#endif
