"""The teams' own pages. What is nobody's team has one word or a token; a team's have two or more."""

from django.urls import path

from saas_litellm.portal import (
    accounts,
    buying,
    limits,
    overview,
    own_keys,
    people,
    receipts,
    work,
)

app_name = "portal"
PERSONAL = [
    path("", accounts.home, name="home"),
    path("sign-in/", accounts.SignIn.as_view(), name="sign_in"),
    path("sign-out/", accounts.SignOut.as_view(), name="sign_out"),
    path("account/", accounts.account, name="account"),
    path("password-reset/", accounts.Reset.as_view(), name="reset"),
    path("password-reset/sent/", accounts.ResetSent.as_view(), name="reset_sent"),
    path("password-reset/<uidb64>/<token>/", accounts.ResetConfirm.as_view(), name="reset_confirm"),
    path("invitations/<str:token>/", accounts.invitation, name="invitation"),
]
OF_A_TEAM = [
    path("<slug:slug>/overview/", overview.overview, name="overview"),
    path("<slug:slug>/jobs/", work.jobs, name="jobs"),
    path("<slug:slug>/jobs/<uuid:job_id>/", work.job, name="job"),
    path("<slug:slug>/receipts/", receipts.receipts, name="receipts"),
    path("<slug:slug>/receipts/<int:number>/", receipts.receipt, name="receipt"),
    path("<slug:slug>/buy/", buying.buy, name="buy"),
    path("<slug:slug>/buy/<uuid:payment_id>/", buying.purchase, name="purchase"),
    path("<slug:slug>/auto-top-up/", buying.auto_top_up, name="auto_top_up"),
    path("<slug:slug>/auto-top-up/card/", buying.save_card, name="card"),
    path("<slug:slug>/auto-top-up/pay/", buying.pay_by_hand, name="pay_by_hand"),
    path("<slug:slug>/statement/", receipts.statement, name="statement"),
    path("<slug:slug>/statement.csv", receipts.statement_csv, name="statement_csv"),
    path("<slug:slug>/budgets/", limits.own_budgets, name="budgets"),
    path("<slug:slug>/budgets/<int:number>/", limits.own_budget, name="budget"),
    path("<slug:slug>/members/", people.team_members, name="members"),
    path("<slug:slug>/members/<int:number>/", people.change_member, name="change_member"),
    path("<slug:slug>/invitations/<int:number>/", people.withdraw, name="withdraw"),
    path("<slug:slug>/keys/", own_keys.own_keys, name="keys"),
    path("<slug:slug>/keys/<slug:prefix>/rotate/", own_keys.rotate, name="rotate"),
    path("<slug:slug>/keys/<slug:prefix>/revoke/", own_keys.revoke, name="revoke"),
]
SHORT = path("<slug:slug>/", overview.overview, name="team")
# Last, so that a team may be called "account" all the same.
urlpatterns = [*OF_A_TEAM, *PERSONAL, SHORT]
