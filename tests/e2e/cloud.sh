# shellcheck shell=bash disable=SC2016,SC2034,SC2154 # the query language has backticks; address, user and key are the frame's
# Machines of EC2, rented and given back. The EC2 is moto's, which nobody here wrote; in front of it tests/testbed/stand_in_cloud.py checks
# every call against botocore's service models and its signature against botocore's signer, adds what moto lacks, and has bad days on
# request. Where a host is needed, one of the testbed stands in for the instance. The AWS command line looks on: what gpustrap tells must be
# what that shows.

moto_pin='moto[server]==5.2.5 botocore==1.44.5 boto3==1.44.5 awscli==1.46.3'

cloud_needs() {
    needs_gpustrap
    have ssh-keygen || echo "ssh-keygen is not installed"
}

cloud_cases() {
    start_cloud || {
        case_ "the stand-in for EC2 comes up"
        fail_case "moto cannot be had, or does not start: $(tail -n 3 "$suite_dir/cloud.log")"
        return 0
    }
    settings

    case_ "without a region, keys or a machine's name each says what is missing"
    run_recorded env -u AWS_REGION "$bin/gpustrap" ls
    expect_exit 2
    expect_output "--region us-east-1"
    run_recorded env -u AWS_ACCESS_KEY_ID AWS_EC2_METADATA_DISABLED=true "$bin/gpustrap" ls
    expect_exit 7
    expect_output "aws configure"
    gpustrap launch
    expect_exit 2
    expect_output "gpustrap launch --gpu t4"
    gpustrap launch --gpu k80
    expect_exit 2
    expect_output "EC2 has retired its machines"

    case_ "nothing is rented where nobody has said yes"
    gpustrap launch --gpu t4 --no-wait
    expect_exit 2
    expect_output "add -y to say yes"
    expect_output "0.526 USD an hour (table of us-east-1, 2026-07-20)"
    expect_output "AWS's price list was not asked: the keys may not do pricing:GetProducts"
    expect_output "SSH from 198.51.100.7/32, and nothing else"
    expect_count instances 0
    expect_count keys 0

    case_ "one command rents a machine: encrypted, metadata by token, SSH from here alone"
    launch_lab
    expect_exit 0
    ask_cloud >all <<'PY'
one, = instances()
print(one["InstanceType"], one["State"]["Name"], one["MetadataOptions"]["HttpTokens"], one["KeyName"])
print(sorted(tag["Key"] + "=" + tag["Value"] for tag in one["Tags"]))
volume, = volumes()
print(volume["Size"], volume["VolumeType"], volume["Encrypted"], [tag["Key"] for tag in volume["Tags"] if tag["Key"] == "gpustrap"])
for group in groups():
    print([(rule["FromPort"], rule["ToPort"], [r["CidrIp"] for r in rule["IpRanges"]]) for rule in group["IpPermissions"]])
print(client.describe_instance_attribute(InstanceId=one["InstanceId"], Attribute="instanceInitiatedShutdownBehavior")["InstanceInitiatedShutdownBehavior"]["Value"])
PY
    cp all output
    expect_output "g4dn.xlarge running required gpustrap-"
    expect_output "['Name=lab', 'gpustrap:image=ubuntu:24.04', 'gpustrap:user=ubuntu', 'gpustrap=lab']"
    expect_output "64 gp3 True ['gpustrap']"
    expect_output "[(22, 22, ['198.51.100.7/32'])]"
    expect_output "stop"

    case_ "its key is the user's alone, and is never made twice"
    expect_equal "$(stat -c %a "$own_key")" 600
    sha256sum "$own_key" >before
    launch_lab
    expect_exit 0
    expect_output "lab is there already"
    sha256sum --quiet --check before
    expect_count instances 1
    expect_count keys 1

    case_ "a second machine takes the same key and group"
    gpustrap launch --type g5.xlarge --name other --no-wait -y
    expect_exit 0
    expect_count instances 2
    expect_count keys 1
    expect_count groups 1

    case_ "ls shows both, with what they cost"
    gpustrap ls
    expect_exit 0
    expect_output "g4dn.xlarge"
    grep -q '0[.]0[0-9] USD' output || fail_case "no cost: $(last_output)"
    gpustrap ls --json
    expect_equal "$(python3 -c 'import json, sys; print(*[i["name"] for i in json.load(sys.stdin)["instances"]])' <stdout)" "lab other"

    case_ "the AWS command line, looking on, sees the machines, states, disks, groups and keys that gpustrap tells of"
    expect_as_aws_sees
    expect_equal "$(aws_shows describe-volumes 'Volumes[].[Tags[?Key==`gpustrap`]|[0].Value,Size,VolumeType,Encrypted]' | sort)" \
        "$(printf 'lab\t64\tgp3\tTrue\nother\t64\tgp3\tTrue')"
    expect_equal "$(aws_shows describe-key-pairs 'KeyPairs[].Tags[?Key==`gpustrap`][].Value')" key
    expect_equal "$(aws_shows describe-security-groups 'SecurityGroups[?Tags].[GroupName,IpPermissions[0].FromPort,length(IpPermissions)]')" \
        "$(printf 'gpustrap ssh from 198.51.100.7/32\t22\t1')"

    case_ "prices are AWS's own where its list may be asked, once a day; which list it was, and of when, is said"
    forget_prices
    echo "g4dn.xlarge 0.5270000000" >"$cloud/prices"
    : >"$cloud/calls"
    gpustrap ls
    expect_exit 0
    expect_output "AWS's price list for us-east-1, $(date -u +%F)"
    expect_output "table of us-east-1, 2026-07-20" # it has no g5.xlarge
    expect_equal "$(grep -c GetProducts "$cloud/calls")" 2
    gpustrap launch --gpu t4 --name third
    expect_exit 2
    expect_output "0.527 USD an hour (AWS's price list for us-east-1, $(date -u +%F))"
    gpustrap ls --json
    expect_output '"usd_per_hour": 0.527'
    expect_equal "$(grep -c GetProducts "$cloud/calls")" 5 # and types that are not listed
    rm "$cloud/prices"
    forget_prices

    case_ "what AWS's own checks find, and what AWS plans, stands in ls"
    gpustrap ls
    expect_no_output impaired
    echo impaired >"$cloud/checks"
    echo "instance-retirement 2026-12-01T00:00:00.000Z The instance is running on degraded hardware" >"$cloud/event"
    gpustrap ls
    expect_exit 0
    expect_output "running, impaired"
    expect_output "AWS plans instance-retirement, not before 2026-12-01T00:00Z: The instance is running on degraded hardware"
    fault DescribeInstanceStatus "refuse 403 UnauthorizedOperation because"
    gpustrap ls
    expect_exit 0
    expect_output "What AWS's own checks find is not shown"
    rm "$cloud/checks" "$cloud/event"

    case_ "another type under the same name is refused"
    gpustrap launch --type g5.xlarge --name lab --no-wait -y
    expect_exit 2
    expect_output "there is an instance \`lab\` already"

    case_ "so is what differs otherwise, by its name: spot, image, disk, key"
    gpustrap launch --gpu t4 --name lab --spot --no-wait -y
    expect_exit 2
    expect_output "it is not what is asked for: it is not spot"
    gpustrap launch --gpu t4 --name lab --image dlami --disk 200 --no-wait -y
    expect_exit 2
    expect_output "its image is ubuntu:24.04, not dlami; its disk has 64 GiB, not 200"
    ssh-keygen -q -t ed25519 -N '' -f other-key
    gpustrap launch --gpu t4 --name lab -i other-key --no-wait -y
    expect_exit 2
    expect_output "lab was launched with the key gpustrap-"
    expect_output "leave -i out"
    gpustrap hosts
    expect_no_output other-key
    mv "$own_key" "$own_key.away"
    gpustrap start lab
    expect_output "which is not here"
    gpustrap launch --gpu t4 --name lab --no-wait -y
    expect_exit 2
    expect_output "which is not here"
    mv "$own_key.away" "$own_key"
    gpustrap start lab
    expect_no_output "which is not here"

    case_ "-y agrees to no price that nobody knows"
    gpustrap launch --type m7i.large --name dear --no-wait -y
    expect_exit 2
    expect_output "what an hour of m7i.large costs is not known here, and -y would agree to any price"
    expect_output "leave -y out"
    expect_count instances 2

    case_ "a key pair in EC2 that is another key than its name says is not used"
    ssh-keygen -q -t ed25519 -N '' -f stranger
    ask_cloud <<'PY'
name = keys()[0]["KeyName"]
client.delete_key_pair(KeyName=name)
client.import_key_pair(KeyName=name, PublicKeyMaterial=open("stranger.pub", "rb").read())
PY
    gpustrap launch --gpu t4 --name third --no-wait -y
    expect_exit 7
    expect_output "is not the key in"
    expect_output "aws ec2 delete-key-pair --region us-east-1 --key-name gpustrap-"
    ask_cloud <<<'client.delete_key_pair(KeyName=keys()[0]["KeyName"])'
    expect_count instances 2

    case_ "stop and start: the address that changed is followed"
    gpustrap stop lab
    expect_exit 0
    expect_output "Its disk is still billed"
    gpustrap ls
    expect_output "5.12 USD a month"
    gpustrap ls --json
    expect_equal "$(python3 -c 'import json, sys; one, = [i for i in json.load(sys.stdin)["instances"] if i["name"] == "lab"]; print(one["disk_gib"], one["usd_per_month"], "stopped" in one)' <stdout)" "64 5.12 True"
    gpustrap launch --gpu t4 --name lab --no-wait -y
    expect_exit 2
    expect_output "gpustrap start lab"
    local before after
    before=$("$bin/gpustrap" hosts | grep -c 'keys/ec2')
    gpustrap start lab
    expect_exit 0
    after=$(sed 's/.*@//' stdout)
    gpustrap hosts
    expect_output "ubuntu@lab ($after)"
    expect_equal "$(grep -c 'keys/ec2' stdout)" "$before"
    expect_as_aws_sees

    case_ "programs are told the same by --json, as docs/json.md has it"
    local of_several='start`, `stop`, `terminate'
    gpustrap stop lab --json
    expect_exit 0
    documented "$of_several"
    expect_equal "$(printed '["state"]')" stopped
    gpustrap start lab --json
    expect_exit 0
    documented "$of_several"
    expect_equal "$(printed '["host"]') $(printed '["user"]') $(printed '["state"]')" "lab ubuntu running"
    gpustrap launch --gpu t4 --name lab --no-wait -y --json
    expect_exit 0
    documented launch
    expect_equal "$(printed '["was_there"]') $(printed '["usd_per_hour"]')" "True 0.526"
    fault StopInstances "refuse 400 UnsupportedOperation because"
    gpustrap stop lab --json
    expect_exit 7
    documented "$of_several"
    expect_equal "$(printed '["state"]') $(printed '["error"]["hint"]' | wc -l)" "running 1"
    gpustrap image lab lab-json -y --json
    expect_exit 0
    documented image
    gpustrap image --remove lab-json -y --json
    expect_exit 0
    documented image
    expect_equal "$(printed '["removed"]')" True
    gpustrap quota --gpu t4 --json
    expect_exit 0
    documented quota
    gpustrap ls --json
    documented ls
    gpustrap ls --orphans --json
    expect_exit 0
    documented ls
    expect_equal "$(printed '["orphans"]')" "[]"

    case_ "start opens SSH to where its user is now, if that is wanted; rules of others stay"
    echo 203.0.113.9 >"$cloud/caller"
    gpustrap start lab
    expect_exit 0
    expect_output "The SSH of lab is open to 198.51.100.7/32; you come from 203.0.113.9/32. It stays so"
    expect_equal "$(sources_of lab)" 198.51.100.7/32
    gpustrap start lab -y
    expect_exit 0
    expect_output "The SSH of lab is open to 203.0.113.9/32 now"
    expect_equal "$(sources_of lab)" 203.0.113.9/32
    expect_equal "$(sources_of other)" 198.51.100.7/32
    gpustrap launch --type g5.xlarge --name other --no-wait -y
    expect_exit 0
    expect_equal "$(sources_of other)" 203.0.113.9/32
    gpustrap start lab --ssh-from 203.0.113.0/24 -y
    expect_exit 0
    expect_equal "$(sources_of lab)" 203.0.113.0/24
    gpustrap start lab -y # 203.0.113.9 is in there
    expect_equal "$(sources_of lab)" 203.0.113.0/24
    gpustrap start lab --ssh-from 0.0.0.0/0 -y
    expect_output "this is everybody"
    expect_equal "$(sources_of lab)" 203.0.113.0/24
    rm "$cloud/caller"
    gpustrap start lab other -y
    expect_equal "$(sources_of lab)$(sources_of other)" 198.51.100.7/32198.51.100.7/32
    fault ModifyInstanceAttribute "refuse 403 UnauthorizedOperation because"
    gpustrap start lab --ssh-from 203.0.113.0/24 -y
    expect_exit 7
    expect_output "opening SSH to 203.0.113.0/24"

    case_ "an image of it can be launched from by its name"
    gpustrap image lab lab-2026 -y
    expect_exit 0
    expect_output "gpustrap launch --type g4dn.xlarge --image lab-2026"
    local image
    image=$(<stdout)
    gpustrap image lab lab-2026 -y
    expect_exit 2
    expect_output "there is an image \`lab-2026\` already"
    gpustrap launch --gpu t4 --name copy --image lab-2026 --no-wait -y
    expect_exit 0
    expect_equal "$(ask_cloud <<<'print([i["ImageId"] for i in instances() if {"Key": "Name", "Value": "copy"} in i["Tags"]][0])')" "$image"

    case_ "a name is a name: no pattern takes another image, and no name is taken for an id or a system"
    gpustrap image --remove 'lab*' -y
    expect_exit 2
    expect_output "is not the name of one image"
    expect_count images 1
    gpustrap launch --gpu t4 --name copy2 --image 'lab*' --no-wait -y
    expect_exit 2
    expect_output "a name has no \`*\`"
    local word
    for word in i-lab ami-lab dlami; do
        gpustrap launch --gpu t4 --name "$word" --no-wait -y
        expect_exit 2
        expect_output "for instance --name lab-1"
        gpustrap image lab "$word" -y
        expect_exit 2
        expect_output "cannot be an image's name"
    done
    expect_count instances 3

    case_ "a machine of another region is told by ls, and found by its name"
    gpustrap launch --gpu t4 --name far --region eu-west-1 --no-wait -y
    expect_exit 0
    gpustrap ls
    expect_exit 0
    expect_no_output "g4dn.xlarge  running  0s"
    expect_output "far was last seen in eu-west-1: gpustrap ls --region eu-west-1"
    gpustrap ls --json
    expect_equal "$(python3 -c 'import json, sys; print(*[(i["name"], i["region"]) for i in json.load(sys.stdin)["elsewhere"]])' <stdout)" "('far', 'eu-west-1')"
    gpustrap ls --region eu-west-1
    expect_output "far "
    expect_output "were last seen in us-east-1: gpustrap ls --region us-east-1"
    gpustrap stop far lab --no-wait
    expect_exit 2
    expect_output "far was last seen in eu-west-1: the same command with --region eu-west-1"
    gpustrap terminate far -y --region us-east-1
    expect_exit 2
    expect_output "the same command with --region eu-west-1"
    gpustrap terminate far -y
    expect_exit 0
    expect_output "far is not in us-east-1, and was last seen in eu-west-1; going on there."
    gpustrap ls
    expect_no_output "eu-west-1"
    gpustrap ls --orphans
    expect_output "Launched from here was in eu-west-1, too"
    gpustrap ls --orphans --region eu-west-1 -y
    expect_exit 0

    case_ "all regions are asked at once; one that does not answer is told, and hides no other"
    gpustrap launch --gpu t4 --name far --region eu-west-1 --no-wait -y
    run_recorded env -u AWS_REGION "$bin/gpustrap" ls --all-regions
    expect_exit 0
    expect_equal "$(awk '/^(lab|far) / { print $1, $2 }' output)" "$(printf 'far eu-west-1\nlab us-east-1')"
    expect_no_output "last seen"
    fault DescribeInstances@eu-west-3 "refuse 403 UnauthorizedOperation because forever"
    fault DescribeInstances@ap-south-1 "cut before forever"
    run_recorded env AWS_MAX_ATTEMPTS=1 "$bin/gpustrap" ls --all-regions
    expect_exit 7
    expect_output "what is in eu-west-3 is not known"
    expect_output "what is in ap-south-1 is not known"
    grep -Eq '^far +eu-west-1 +i-' output || fail_case "far is hidden: $(last_output)"
    run_recorded env AWS_MAX_ATTEMPTS=1 "$bin/gpustrap" ls --all-regions --json
    expect_exit 7
    documented ls
    expect_equal "$(printed '["failed"][0]["region"]') $(printed '["region"]')" "ap-south-1 None"
    expect_equal "$(python3 -c 'import json, sys; print(*[(i["name"], i["region"]) for i in json.load(sys.stdin)["instances"] if i["name"] in ("lab", "far")])' <stdout)" \
        "('far', 'eu-west-1') ('lab', 'us-east-1')"
    fault DescribeRegions "refuse 403 UnauthorizedOperation because"
    gpustrap ls --all-regions
    expect_exit 7
    expect_output "ec2:DescribeRegions"
    no_faults

    case_ "what is left over is found in all regions, with what it costs a month in each"
    ask_cloud <<'PY'
tags = [{"ResourceType": "volume", "Tags": [{"Key": "gpustrap", "Value": "old"}]}]
boto3.client("ec2", region_name="ap-south-1").create_volume(Size=100, AvailabilityZone="ap-south-1a", TagSpecifications=tags)
PY
    gpustrap terminate far -y --region eu-west-1
    gpustrap ls --orphans
    expect_output "in eu-west-1, too: gpustrap ls --orphans --all-regions"
    gpustrap ls --orphans --all-regions
    expect_exit 0
    expect_output "ap-south-1: 8.00 USD a month"
    expect_output "100 GiB, was of old"
    expect_output "eu-west-1: 0.00 USD a month"
    expect_output "in all 8."
    gpustrap ls --orphans --all-regions --json
    documented ls
    expect_equal "$(python3 -c 'import json, sys; print(*[i["usd_per_month"] for i in json.load(sys.stdin)["by_region"] if i["region"] == "ap-south-1"])' <stdout)" 8.0
    gpustrap ls --orphans --all-regions -y
    expect_exit 0
    gpustrap ls --orphans --all-regions
    expect_no_output "ap-south-1"
    expect_no_output "eu-west-1"

    case_ "one that AWS does not start is told, and the others are started"
    gpustrap stop lab other
    fault StartInstances "refuse 400 UnsupportedOperation because"
    gpustrap start lab other
    expect_exit 7
    expect_output "starting lab"
    expect_output "other runs"
    expect_as_aws_sees

    case_ "terminate says what goes, and ends that alone"
    gpustrap terminate lab
    expect_exit 2
    expect_output "its disk vol-"
    expect_count instances 3
    gpustrap terminate labb -y
    expect_exit 2
    expect_output "did you mean \`lab\`?"
    gpustrap terminate lab other -y
    expect_exit 0
    expect_count instances 1
    gpustrap terminate copy -y --json
    documented "$of_several"
    expect_equal "$(printed '["state"]') $(printed '["disks_left"]')" "shutting-down []"
    expect_count instances 0

    case_ "what is left over is found, and removed on consent; images are kept"
    gpustrap ls --orphans --json
    expect_exit 0
    documented ls
    expect_equal "$(printed '["orphans"][0]["removed"]')" False
    gpustrap ls --orphans
    expect_exit 0
    expect_output "gpustrap ssh from 198.51.100.7/32"
    expect_output "lab-2026, made to be launched from; kept"
    expect_count groups 1
    fault DeleteSecurityGroup "refuse 400 DependencyViolation because"
    gpustrap ls --orphans -y
    expect_exit 7
    expect_output "removing group"
    expect_count groups 1
    expect_count keys 0
    gpustrap ls --orphans -y
    expect_exit 0
    expect_count groups 0
    expect_count images 1

    case_ "an image is removed with its snapshots, after it was named; those of others are not"
    gpustrap image --remove lab-2026
    expect_exit 2
    expect_output "the image lab-2026 (ami-"
    expect_output "its snapshot snap-"
    expect_count images 1
    gpustrap image --remove lab-2062 -y
    expect_exit 2
    expect_output "did you mean \`lab-2026\`?"
    fault DeleteSnapshot "refuse 400 InvalidSnapshot.InUse because"
    gpustrap image --remove lab-2026 -y
    expect_exit 7
    expect_count images 0
    expect_count own_snapshots 1
    gpustrap ls --orphans
    expect_output "was of the image lab-2026"
    gpustrap image --remove lab-2026 -y
    expect_exit 0
    expect_count own_snapshots 0
    ask_cloud <<'PY'
instance = client.run_instances(ImageId=client.describe_images()["Images"][0]["ImageId"], MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
client.create_image(InstanceId=instance, Name="by-hand")
PY
    gpustrap image --remove by-hand -y
    expect_exit 2
    expect_output "is not one that \`gpustrap image\` has made"
    expect_count images 1

    case_ "a quota that does not suffice is told before anything is made, with the way to more"
    fresh_cloud
    echo 0 >"$cloud/quota"
    gpustrap launch --gpu t4 -y --no-wait
    expect_exit 7
    expect_output "may have 0 vCPUs of running on-demand G and VT instances in us-east-1"
    expect_output "gpustrap quota request 4 --type g4dn.xlarge"
    expect_count groups 0
    gpustrap quota --gpu t4
    expect_exit 0
    expect_output "0 of     0 vCPUs  L-DB2E81BA"
    gpustrap quota request 8 --gpu t4 -y
    expect_exit 0
    expect_output "Asked; the request is PENDING"
    expect_equal "$(<"$cloud/asked_quota")" "L-DB2E81BA 8"
    rm "$cloud/quota"

    case_ "a machine that was ended elsewhere is told, and forgotten on request"
    gpustrap launch --gpu t4 --name gone --no-wait -y
    expect_exit 0
    ask_cloud <<<'client.terminate_instances(InstanceIds=[i["InstanceId"] for i in instances() if {"Key": "Name", "Value": "gone"} in i["Tags"]])'
    gpustrap ls
    expect_output "gone is known here, and AWS shows these keys no such instance in us-east-1 any more: \`gpustrap terminate gone\` forgets it."
    gpustrap terminate gone -y
    expect_exit 0
    expect_output "Forgotten; nothing was changed in EC2."
    gpustrap ls
    expect_no_output gone
    fresh_cloud

    case_ "spot is offered at the price of the zone that is asked first, and ls tells about what it has cost"
    gpustrap launch --type g5.xlarge,g6.xlarge --spot --name cheap
    expect_exit 2
    expect_output "USD an hour in us-east-1"
    expect_output "which is asked first"
    expect_output "g6.xlarge at spot, now"
    gpustrap launch --type g5.xlarge --spot --name cheap --no-wait -y
    expect_exit 0
    gpustrap ls
    expect_output "about 0.00 USD"
    expect_output "what spot costs now in us-east-1"
    fresh_cloud

    case_ "a group that somebody opened further is not used"
    launch_lab
    gpustrap terminate lab -y
    ask_cloud <<'PY'
client.authorize_security_group_ingress(GroupId=groups()[0]["GroupId"], IpProtocol="tcp", FromPort=8888, ToPort=8888, CidrIp="0.0.0.0/0")
PY
    launch_lab
    expect_exit 7
    expect_output "tcp 8888 to 8888 from 0.0.0.0/0"
    expect_count instances 0
    fresh_cloud

    case_ "one that somebody opens later is told by start, and by the same launch again"
    launch_lab
    ask_cloud <<'PY'
client.authorize_security_group_ingress(GroupId=groups()[0]["GroupId"], IpProtocol="tcp", FromPort=8888, ToPort=8888, CidrIp="0.0.0.0/0")
PY
    gpustrap start lab
    expect_exit 0
    expect_output "Somebody has opened lab further than to SSH from one place: tcp 8888 from 0.0.0.0/0 (sg-"
    launch_lab
    expect_exit 0
    expect_output "Somebody has opened lab further"

    case_ "start --no-wait opens SSH to whom it is told"
    gpustrap stop lab
    gpustrap start lab --no-wait --ssh-from 203.0.113.0/24 -y
    expect_exit 0
    expect_output "The SSH of lab is open to 203.0.113.0/24 now."
    expect_equal "$(sources_of lab)" 203.0.113.0/24
    fresh_cloud

    case_ "a zone without capacity gives way to the next one, then to the next type"
    fault RunInstances "refuse 500 InsufficientInstanceCapacity none"
    launch_lab
    expect_exit 0
    expect_output "There is none (InsufficientInstanceCapacity)."
    expect_count instances 1
    fresh_cloud
    fault RunInstances "refuse 500 InsufficientInstanceCapacity none forever"
    launch_lab
    expect_exit 7
    expect_output "AWS has none of these now: g4dn.xlarge in us-east-1"
    expect_output "g4dn.2xlarge in us-east-1"
    expect_count instances 0
    no_faults

    case_ "a recipe whose CUDA the GPU cannot run is refused before anything is rented"
    printf 'name: old\nsteps:\n  - nvidia_driver: {}\n  - cuda: { version: "9.0" }\n' >old.yaml
    gpustrap launch --gpu t4 --recipe ./old.yaml -y
    expect_exit 2
    expect_output "so it is not rented"
    expect_count instances 0
    printf 'name: middle\nsteps:\n  - nvidia_driver: {}\n  - cuda: { version: "11.1" }\n' >middle.yaml
    gpustrap launch --type g4dn.xlarge,g6.xlarge --recipe ./middle.yaml -y
    expect_exit 2
    expect_output "would fail on g6.xlarge, so it is not rented"
    gpustrap launch --type m7i.large --recipe ./middle.yaml -y
    expect_exit 2
    expect_output "m7i.large has none, so it is not rented"
    gpustrap launch --gpu a100 -y
    expect_exit 2
    expect_output "--gpu 8xa100"
    expect_count instances 0

    case_ "throttling and cut connections are waited out, and make nothing twice"
    fault DescribeInstances "refuse 503 RequestLimitExceeded slower"
    fault RunInstances "cut after"
    fault DescribeInstanceTypes "cut before"
    launch_lab
    expect_exit 0
    expect_count instances 1
    fresh_cloud

    local busy
    for busy in RequestLimitExceeded Unavailable InternalError; do
        case_ "an order whose answer is lost, and then AWS is busy ($busy): one machine is rented, and found again"
        fresh_cloud
        fault RunInstances "cut after"
        fault RunInstances "refuse 503 $busy because forever"
        run_recorded env AWS_MAX_ATTEMPTS=2 "$bin/gpustrap" launch --gpu t4 --name lab --no-wait -y
        expect_exit 7
        expect_output "which may have been rented"
        expect_equal "$(aws_counts)" "1 1 1 1"
        no_faults
        launch_lab
        expect_exit 0
        expect_equal "$(aws_counts)" "1 1 1 1"
    done
    fresh_cloud

    case_ "an instance that is not known yet is waited for"
    fault RunInstances "refuse 400 InvalidGroup.NotFound young"
    fault AuthorizeSecurityGroupIngress "refuse 400 InvalidGroup.NotFound young"
    launch_lab
    expect_exit 0
    fault DescribeInstances "refuse 400 InvalidInstanceID.NotFound young"
    gpustrap stop lab
    expect_exit 7
    gpustrap stop lab
    expect_exit 0
    fresh_cloud

    case_ "a machine that AWS does not stop or end is told, and the others are stopped and ended"
    launch_lab
    gpustrap launch --gpu t4 --name other --no-wait -y
    fault StopInstances "refuse 400 UnsupportedOperation spot"
    gpustrap stop lab other --no-wait
    expect_exit 7
    expect_output "stopping lab"
    expect_output "other is stopping"
    expect_equal "$(ask_cloud <<<'print(sum(i["State"]["Name"] in ("stopping", "stopped") for i in instances()))')" 1
    fault TerminateInstances "refuse 400 OperationNotPermitted protected"
    gpustrap terminate lab other -y
    expect_exit 7
    expect_output "terminating lab"
    expect_count instances 1
    fresh_cloud

    case_ "a yes in the environment rents, and destroys nothing"
    run_recorded env GPUSTRAP_YES=1 "$bin/gpustrap" launch --gpu t4 --name lab --no-wait
    expect_exit 0
    run_recorded env GPUSTRAP_YES=1 "$bin/gpustrap" terminate lab
    expect_exit 2
    expect_count instances 1
    fresh_cloud

    case_ "a clock that is wrong is told, and does not stand in the way"
    fault DescribeInstances skew
    gpustrap ls
    expect_exit 0
    expect_output "clock is 2 hours behind AWS's"
    no_faults

    case_ "what AWS refuses is told with its cause and what to do, and ends with 7"
    local code
    for code in UnauthorizedOperation AuthFailure ExpiredToken OptInRequired; do
        fault DescribeInstances "refuse 400 $code because forever"
        gpustrap ls
        expect_exit 7
        expect_output "$code: because"
        no_faults
    done
    run_recorded env AWS_ENDPOINT_URL=http://127.0.0.1:1 AWS_MAX_ATTEMPTS=1 "$bin/gpustrap" ls
    expect_exit 7
    expect_output "see whether this machine is on the network"
    expect_no_output wJalrXUtnFEMI
    run_recorded env AWS_ENDPOINT_URL=nonsense "$bin/gpustrap" ls
    expect_exit 2
    expect_output "\`nonsense/\` is no address"

    case_ "quota, capacity, login, region, clock, network: each has its cause and its next step"
    expect_advice "refuse 400 VcpuLimitExceeded because" RunInstances "quota of vCPUs in us-east-1 is used up" "gpustrap quota"
    expect_advice "refuse 500 InsufficientInstanceCapacity because" RunInstances "AWS has none of these now" "another region (--region)"
    expect_advice "refuse 400 ExpiredToken because" DescribeInstances "have expired" "aws sso login"
    expect_advice "refuse 401 AuthFailure because" DescribeInstances "does not accept the keys of AWS_ACCESS_KEY_ID in us-east-1" "aws account list-regions"
    expect_advice "refuse 400 RequestExpired because" DescribeInstances "does not accept the time" "timedatectl set-ntp true"
    expect_advice "refuse 400 OptInRequired because" RunInstances "not signed up for this in us-east-1" "aws account enable-region"
    run_recorded env -u AWS_ENDPOINT_URL AWS_MAX_ATTEMPTS=1 "$bin/gpustrap" launch --gpu t4 --region us-east-99 -y
    expect_exit 7
    expect_output "us-east-99"
    expect_output "did you mean --region us-east-1?"
    gpustrap ls --region us-east-1a
    expect_exit 2
    expect_output "this is a zone; its region is us-east-1"
    expect_equal "$(aws_counts)" "0 0 1 1" # key and group of the orders that were refused
    gpustrap ls --orphans -y
    expect_equal "$(aws_counts)" "0 0 0 0"
    fresh_cloud

    case_ "one that AWS ends while it is waited for is told as what it is, with why and what to do"
    local end
    for end in "Server.SpotInstanceTermination: Spot instance was taken back|run it again" \
        "Client.VolumeLimitExceeded Volume limit exceeded|Service Quotas" \
        "Client.InternalError Client error on launch|EBS encryption" \
        "Client.UserInitiatedShutdown User initiated shutdown|rents another \`lab\`"; do
        echo "${end%|*}" >"$cloud/ends"
        launch_lab
        expect_exit 7
        expect_output "did not start; it is terminated: "
        expect_output "${end#*|}"
        fresh_cloud
    done
    rm "$cloud/ends"
    follow launch --gpu t4 --name lab -y # its console shows nothing
    await_that grep -q "Waiting for its host keys" "$suite_dir/follower/told"
    echo "Server.SpotInstanceTermination Spot instance was taken back" >"$cloud/ends"
    status=0
    wait "$follower" || status=$?
    cp "$suite_dir/follower/told" output
    expect_exit 7
    expect_output "lab did not go on running; it is terminated: Spot instance was taken back"
    rm "$cloud/ends"
    fresh_cloud

    case_ "a disk that is full rents nothing, and leaves no half of a key"
    local full=$suite_dir/full
    mkdir -p "$full"
    mount -t tmpfs -o size=64k none "$full"
    mkdir -p "$full/gpustrap"
    head -c 1M /dev/zero >"$full/filling" 2>/dev/null || true
    run_recorded env XDG_STATE_HOME="$full" "$bin/gpustrap" launch --gpu t4 --name lab --no-wait -y
    expect_exit 7
    expect_output "No space left on device"
    expect_output "nothing was ordered"
    expect_no_output "may have been rented"
    expect_equal "$(find "$full/gpustrap" -name 'ec2*' -path '*keys*')" ""
    expect_equal "$(aws_counts)" "0 0 0 0"
    rm "$full/filling"
    run_recorded env XDG_STATE_HOME="$full" "$bin/gpustrap" launch --gpu t4 --name lab --no-wait -y
    expect_exit 0
    umount "$full"
    fresh_cloud

    case_ "from nothing to a host that is set up, its key known before the first login"
    fresh_cloud
    boot_host instance
    as_instance
    gpustrap launch --gpu t4 --name lab --recipe "$suite_dir/small.yaml" -y --no-tunnel
    expect_exit 0
    expect_output "Its host keys are known now"
    on_host cat /etc/made-by-recipe
    expect_output "yes"

    case_ "its name is a host's name: up, status and ssh find address, user, key and host key"
    gpustrap up "$suite_dir/small.yaml" lab --json
    expect_exit 0
    expect_unchanged
    gpustrap status lab
    expect_exit 0
    expect_output "small"
    gpustrap ssh lab hostname
    expect_exit 0
    expect_output instance
    expect_equal "$(grep -c "^$address " "$known_hosts")" "$(grep -c "^ssh-\|^ecdsa-" "$cloud/console")"

    case_ "stopped and started, it is found at its new address, by the host key that it had"
    local moved=${address%.*}.77
    on_host sh -c "ip address add $moved/24 dev \$(ip -o route show default | sed 's/.* dev \([^ ]*\).*/\1/')"
    expect_exit 0
    gpustrap stop lab
    echo "$moved" >"$cloud/address"
    gpustrap start lab
    expect_exit 0
    expect_output "it was at $address and is at $moved now"
    gpustrap up "$suite_dir/small.yaml" lab --json
    expect_exit 0
    expect_unchanged
    ! grep -q "^$address ssh-" "$known_hosts" || fail_case "the key of $address is still there"
    echo "$address" >"$cloud/address"
    gpustrap start lab
    expect_output "it was at $moved and is at $address now"

    case_ "from nothing to an open notebook: one command, whose page answers through the tunnel"
    gpustrap terminate lab -y
    hold_launch --gpu t4 --name lab --recipe jupyter -y
    expect_equal "$(http_code "$notebook")" 200
    expect_equal "$(http_code "${notebook%%/lab*}/api/contents?token=wrong")" 403
    let_go
    expect_exit 0
    gpustrap url lab
    expect_exit 0
    expect_output "token="
    grep -q "^$address ssh-" "$known_hosts" || fail_case "$known_hosts has no key of $address"

    case_ "a launch that says so ends on a machine that stops by itself, and knows the price of its type; ls tells whether it is in use"
    gpustrap terminate lab -y
    gpustrap launch --gpu t4 --name lab --idle-stop 30m --budget 5USD -y
    expect_exit 0
    expect_output "stops by itself after 30m without use, and once its hours have cost 5USD"
    expect_output "ubuntu@$address"
    expect_output "gpustrap stop lab"
    on_host systemctl is-active gpustrap-idle.timer
    expect_output active
    await_that use_is_told
    expect_output '"after_s": 1800'
    expect_output '"per_hour": 0.526'
    gpustrap ls --idle
    expect_exit 0
    expect_output "USE"
    grep -Eq "  (busy|idle)" output || fail_case "no word on its use: $(last_output)"

    case_ "with a recipe it is a step of that recipe's run, which needs no other"
    gpustrap launch --gpu t4 --name lab --recipe "$suite_dir/small.yaml" --idle-stop 1h -y --no-tunnel
    expect_exit 0
    expect_output "idle_stop"
    await_that told_to_stop_after 3600

    case_ "a budget that cannot be reckoned is refused before anything is rented"
    local rented
    rented=$(aws_counts)
    gpustrap launch --gpu t4 --name dear --budget 5EUR -y
    expect_exit 2
    expect_output "AWS's prices are in USD"
    gpustrap launch --type m7i.large --name dear --budget 5USD -y
    expect_exit 2
    expect_output "what an hour of m7i.large costs is not known"
    expect_output "--price"
    expect_equal "$(aws_counts)" "$rented"

    case_ "a host whose key is not that of the console is not logged in to"
    gpustrap terminate lab -y
    expect_exit 0
    ! grep -q "^$address ssh-" "$known_hosts" || fail_case "terminate has left the key of $address"
    ssh-keygen -q -t ed25519 -N '' -f stranger
    printf '%s\n' "-----BEGIN SSH HOST KEY KEYS-----" "$(<stranger.pub)" "-----END SSH HOST KEY KEYS-----" >"$cloud/console"
    gpustrap launch --gpu t4 --name lab --recipe "$suite_dir/small.yaml" -y --no-tunnel
    expect_exit 5
    rm "$cloud/console" "$cloud/address"

    case_ "the template of docs/fleet.md is one that CloudFormation would take, as cfn-lint knows it"
    sed -n '/^```yaml$/,/^```$/p' "$repository/docs/fleet.md" | sed '1d;$d' >template.yaml
    run_recorded "${python%/*}/cfn-lint" template.yaml
    expect_exit 0
    grep -q AWS::AutoScaling::AutoScalingGroup template.yaml
    sed 's/InstanceType:/InstanceTipe:/' template.yaml >wrong.yaml
    run_recorded "${python%/*}/cfn-lint" wrong.yaml
    expect_different "$status" 0

    case_ "every call was one that AWS would take"
    expect_equal "$(cat "$cloud/wrong" 2>/dev/null)" ""
}

# --- the cloud ---

# moto and botocore from the package index, once, beside the other things that suites keep between runs.
start_cloud() {
    local tools=$outer_cache/gpustrap/cloud-tools-2
    cloud=$suite_dir/cloud
    mkdir -p "$cloud" "${tools%/*}"
    if [ ! -e "$tools/ready" ]; then
        (
            flock 9
            [ -e "$tools/ready" ] && exit 0
            # shellcheck disable=SC2086 # several packages
            HOME=$outer_home python3 -m venv "$tools" && HOME=$outer_home "$tools/bin/pip" install --quiet $moto_pin && touch "$tools/ready"
        ) 9>"$tools.lock" >"$suite_dir/cloud.log" 2>&1 || return 1
    fi
    python=$tools/bin/python
    "$python" "$repository/tests/testbed/stand_in_cloud.py" "$cloud" >"$suite_dir/cloud.log" 2>&1 </dev/null &
    background+=($!)
    await "$cloud/url"
}

settings() {
    export AWS_ACCESS_KEY_ID=AKIDEXAMPLE AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY AWS_REGION=us-east-1
    unset AWS_PROFILE AWS_DEFAULT_REGION AWS_SESSION_TOKEN
    AWS_ENDPOINT_URL=$(<"$cloud/url")
    AWS_ENDPOINT_URL_CHECKIP=$AWS_ENDPOINT_URL/
    export AWS_ENDPOINT_URL AWS_ENDPOINT_URL_CHECKIP
    own_key=$HOME/.local/state/gpustrap/keys/ec2
    ask_cloud <<<'print([i["ImageId"] for i in client.describe_images()["Images"] if "ubuntu" in i["Name"] and i["Architecture"] == "x86_64"][0])' >"$cloud/image"
    printf 'name: small\nsteps:\n  - file: { path: /etc/made-by-recipe, content: "yes\\n" }\n' >"$suite_dir/small.yaml"
}

# Another program's eyes on what is there: python on boto3, asking moto itself.
ask_cloud() {
    local given
    given=$(cat)
    AWS_ENDPOINT_URL=$(<"$cloud/moto") "$python" - <<PY
import boto3
client = boto3.client("ec2", region_name="us-east-1")
alive = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
own = [{"Name": "tag-key", "Values": ["gpustrap"]}]
instances = lambda: [i for r in client.describe_instances(Filters=alive)["Reservations"] for i in r["Instances"]]
volumes = lambda: client.describe_volumes()["Volumes"]
groups = lambda: client.describe_security_groups(Filters=own)["SecurityGroups"]
keys = lambda: client.describe_key_pairs()["KeyPairs"]
images = lambda: client.describe_images(Owners=["self"])["Images"]
own_snapshots = lambda: client.describe_snapshots(OwnerIds=["self"], Filters=own)["Snapshots"]
$given
PY
}

expect_count() {
    local count
    count=$(ask_cloud <<<"print(len($1()))")
    [ "$count" = "$2" ] || fail_case "$count $1, expected $2"
}

# Of instances, volumes, groups and keys, as the AWS command line counts them; all in one process.
aws_counts() {
    AWS_DEFAULT_REGION=us-east-1 AWS_ENDPOINT_URL=$(<"$cloud/moto") "$python" - <<'PY'
import contextlib, io, json
from awscli.clidriver import create_clidriver
driver = create_clidriver()
def count(*words):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert driver.main(["ec2", *words, "--output", "json"]) == 0, words
    return len(json.loads(shown.getvalue()))
alive = "Name=instance-state-name,Values=pending,running,stopping,stopped"
print(count("describe-instances", "--filters", alive, "--query", "Reservations[].Instances[]"), count("describe-volumes", "--query", "Volumes[]"),
      count("describe-security-groups", "--filters", "Name=tag-key,Values=gpustrap", "--query", "SecurityGroups[]"),
      count("describe-key-pairs", "--query", "KeyPairs[]"))
PY
}

# aws_shows CALL QUERY: what the AWS command line shows, as text.
aws_shows() { AWS_DEFAULT_REGION=us-east-1 AWS_ENDPOINT_URL=$(<"$cloud/moto") "${python%/*}/aws" ec2 "$1" --query "$2" --output text; }

# Name, id, type, state, address and zone of all machines, the tag and what gpustrap calls it among them.
expect_as_aws_sees() {
    gpustrap ls --json
    expect_exit 0
    expect_equal "$(python3 -c 'import json, sys
for one in json.load(sys.stdin)["instances"]: print(*(one[name] or "None" for name in ("name", "instance", "type", "state", "address", "zone")), sep="\t")' <stdout | sort)" \
        "$(aws_shows describe-instances 'Reservations[].Instances[?Tags].[Tags[?Key==`gpustrap`]|[0].Value,InstanceId,InstanceType,State.Name,PublicIpAddress,Placement.AvailabilityZone][]' | sort)"
}

# Whom the groups of a machine let in.
sources_of() {
    ask_cloud <<<"one, = [i for i in instances() if {'Key': 'Name', 'Value': '$1'} in i['Tags']]
groups = client.describe_security_groups(GroupIds=[g['GroupId'] for g in one['SecurityGroups']])['SecurityGroups']
print(*(r['CidrIp'] for g in groups for p in g['IpPermissions'] for r in p['IpRanges']))"
}

forget_prices() { rm -f "$HOME"/.local/state/gpustrap/ec2/prices-*.json; }

# expect_advice FAULT ACTION CAUSE STEP: a launch that meets the fault names both, and ends with 7.
expect_advice() {
    fault "$2" "$1 forever"
    run_recorded env AWS_MAX_ATTEMPTS=1 "$bin/gpustrap" launch --gpu t4 --name lab --no-wait -y
    expect_exit 7
    expect_output "$3"
    expect_output "$4"
    no_faults
}

http_code() { curl -s -o /dev/null --max-time 20 -w '%{http_code}' "$1" || true; }

# A launch at a terminal, which holds the tunnel: $notebook is the address that it prints. `let_go` presses Ctrl-C.
hold_launch() {
    mkfifo "$suite_dir/keyboard"
    script -q -e -f -c "$(printf '%q ' "$bin/gpustrap" launch "$@")" "$suite_dir/held" >/dev/null 2>&1 <"$suite_dir/keyboard" &
    held=$!
    background+=("$held")
    exec 8>"$suite_dir/keyboard"
    local deadline=$((SECONDS + 300)) # real packages are installed
    until grep -q -s -E 'Ctrl-C closes' "$suite_dir/held" || [ $SECONDS -gt $deadline ] || ! kill -0 "$held" 2>/dev/null; do sleep 0.2; done
    notebook=$(grep -o -E 'http://localhost:[0-9]+/lab\?token=[A-Za-z0-9._-]+' "$suite_dir/held" | tail -n 1)
    [ -n "$notebook" ] || fail_case "no notebook: $(tail -n 5 "$suite_dir/held")"
}

let_go() {
    printf '\003' >&8
    status=0
    wait "$held" || status=$?
    exec 8>&-
    cp "$suite_dir/held" "$case_dir/output"
}

# Nothing there, neither in the cloud nor in what this machine remembers.
fresh_cloud() {
    no_faults
    curl -s -o /dev/null -X POST "$(<"$cloud/moto")/moto-api/reset"
    rm -rf "$HOME/.local/state/gpustrap/ec2"
}

fault() { echo "$2" >"$cloud/faults/$(find "$cloud/faults" -type f | wc -l)-$1"; }
no_faults() { find "$cloud/faults" -type f -delete; }

use_is_told() { gpustrap ls --idle --json && grep -q '"idle_for_s"' output; }
told_to_stop_after() { gpustrap status lab --json && grep -q "\"after_s\":$1" output; }

launch_words=(--gpu t4)
launch_lab() { gpustrap launch "${launch_words[@]}" --name lab --no-wait -y; }

# The testbed's host stands in for whatever is launched next: its address, its host keys on the console, the key that gpustrap uploads.
as_instance() {
    echo "$address" >"$cloud/address"
    {
        echo "[   21.5] cloud-init[812]: -----BEGIN SSH HOST KEY KEYS-----"
        testbed exec "$host_name" sh -c 'cat /etc/ssh/ssh_host_*_key.pub'
        echo "-----END SSH HOST KEY KEYS-----"
    } >"$cloud/console"
    ssh-keygen -y -f "$own_key" | testbed exec "$host_name" sh -c 'cat >>/home/ubuntu/.ssh/authorized_keys'
}
