/* SPDX-License-Identifier: MIT */
#include "hub_own.h"
int main(void)
{
	return 0;
}
